"""The table, the report and the sweep page, in the formats that people and programs read."""
