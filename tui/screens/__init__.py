"""The screens, one per noun, and what opens over them. Their one rule: they show the model and ask the engine."""
