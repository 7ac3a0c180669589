"""Pure arithmetic from a host, a catalogue and a wish to a plan: no machine, no clock, no guess without its label."""
