"""How a model family writes its reasoning and its calls. Imports no other room."""
