"""What files say of themselves: their dialect, times, roles of columns, and what a person must see.

Every module answers one question from a sample of the rows; `plant_file` writes the answers down as
a plant.yml with comments. Nothing is decided by names alone where the values can say otherwise.
"""
