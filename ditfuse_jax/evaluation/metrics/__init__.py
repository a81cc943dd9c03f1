# SPDX-License-Identifier: Apache-2.0
"""Float64 reference metrics, one family a file: pure functions of grey float64 [H, W] images in 0 to 255.

A metric of a fusion takes `(first, second, fused)`, a metric of two images `(image, reference)`. Colour
metrics take uint8 [H, W, 3]. `colour.grey` makes the grey image of a coloured one.
"""
