"""What a student learns from a teacher besides the labels. Open `student_loss.py` first, then `teacher.py`."""
