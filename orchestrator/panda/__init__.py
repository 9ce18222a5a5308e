"""Door: what runs workflows (PanDA, or the embedded engine)."""
