"""asterism reads very long texts and answers questions about them, with Star Attention."""
