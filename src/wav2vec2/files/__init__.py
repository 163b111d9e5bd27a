"""Files as files: whole or not at all, tables of tabs, strict records. Nothing here knows of speech or of torch."""
