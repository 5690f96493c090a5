"""Frame-level training: which notes sound when, and which instrument plays them (Hung, Chen, Yang 2019).

recipe.py    everything that decides; the paper's preset and a small one
rolls.py     notes to pianoroll, instrument roll and pitch roll
data.py      a split as CQT frames and notes
unet.py      CQT to a pianoroll of logits; instrument and pitch rolls by summing it up
losses.py    the sum of three cross-entropies
loop.py      training steps, validation
saved.py     a run on disk
run.py       train_frames
evaluate.py  evaluate_frames
predict.py   predict_frames: file to notes, MIDI, picture
scores.py    figures from histograms; mir_eval's accuracies
decode.py    pianoroll to notes
picture.py   notes to a picture
"""
