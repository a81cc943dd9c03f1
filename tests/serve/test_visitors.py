# SPDX-License-Identifier: Apache-2.0
"""Files and jobs of a visitor go with the visitor."""

from types import SimpleNamespace

from ditfuse_jax.serve.visitors import Visitors


def test_what_a_visitor_leaves_is_deleted(tmp_path):
    cancelled, uploads = [], tmp_path / "uploads"
    shared, own, foreign = uploads / "1" / "a.png", uploads / "2" / "b.png", tmp_path / "example.png"
    for file in (shared, own, foreign):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    visitors = Visitors(SimpleNamespace(cancel=cancelled.append), uploads)
    visitors.has("anna", [shared, own, foreign])
    visitors.has("ben", [shared])
    visitors.waits("anna", "ticket")
    results = [uploads / name / "fused.png" for name in "xy"]
    for file in results:
        file.parent.mkdir()
        file.write_bytes(b"x")
        visitors.gets("anna", file)
    assert [file.exists() for file in results] == [False, True]
    visitors.left("anna")
    assert not results[1].parent.exists()
    assert cancelled == ["ticket"]
    assert shared.is_file()
    assert not own.parent.exists()
    visitors.left("ben")
    visitors.left("ben")
    assert not shared.exists()
    assert foreign.is_file()
