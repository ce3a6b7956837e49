"""COCO's side of the work: the data set, the results format, the score, and what an evaluation leaves."""
