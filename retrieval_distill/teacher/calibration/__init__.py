"""Raw teacher scores brought to one scale."""
