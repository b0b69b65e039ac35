"""Tables: where rows come from, what they must have, where they are kept. No torch."""
