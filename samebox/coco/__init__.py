"""COCO data sets, the results format, submissions, and the files that an evaluation writes."""
