"""The report on detectors and their forms, as a page and as Markdown: a module a part of it."""
