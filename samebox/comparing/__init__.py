"""Forms of one detector compared: table, gate, differences, attribution."""
