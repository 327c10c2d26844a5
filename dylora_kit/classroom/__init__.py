"""What an instructor takes to a class, made from the notebooks of a clone.

    python -m dylora_kit class export FOLDER
    python -m dylora_kit class wheelhouse FOLDER

The notebooks are the only source: a change there is a change in all that is made here.

In reading order:

- `cells`: cells of a notebook, and what is folded away in them
- `clone`: the lessons of a clone, their exercises, and the notes for instructors
- `versions`: a lesson for students, and for teachers
- `grading`: a lesson as nbgrader wants it
- `slide_math`: formulas as pictures
- `slide_pieces`: what goes onto slides, and how high it is
- `slides`: a lesson as slides, with what the speaker says
- `slide_deck`: slides that open in a browser
- `sheet`: a printed page
- `sheet_figures`: two figures for it
- `hand_out`, `glossary`: the two pages
- `folder_notes`: what the folder says of itself
- `export`: all of it together
- `exported_folder`: a folder that is filled, and filled again
- `wheelhouse`: what pip needs where there is no internet
"""
