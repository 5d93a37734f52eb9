"""The shared layers: every architecture is built of these.

Maps are channels last, `[n, h, w, c]`, sequences `[n, t, d]`. Every layer defines `build`,
`compute_output_shape` and `get_config`, passes its dtype policy on to its children, and is exact in
float64.
"""
