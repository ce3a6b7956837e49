"""Configs of MMDetection, detectron2 and maskrcnn-benchmark, translated into configs of samebox.

`configs` reads their files as plain data. `mmdetection`, `detectron2` and `maskrcnn_benchmark` translate one
framework each; `detectron` holds what the last two share. A `Section` reports every key that was not read.
`delta` reduces the result to what differs from a family.
"""
