"""A comparison → what people read: Markdown, a terminal's tables, JSON."""
