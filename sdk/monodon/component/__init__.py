"""What a component author imports."""
