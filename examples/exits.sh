#!/usr/bin/env bash
# Every exit policy on SST-2 and AG News, from the stored outputs of one forward; what docs/results/exits.md shows.
#   bash examples/exits.sh            # from the repository's root; about a quarter of an hour on two cores
# Real text, cut from the files in $DATA: heads and encoder learn on one part of the training data, post-hoc modules on another,
# thresholds are tuned on a third; test texts are only judged.
set -euo pipefail
DATA=${DATA:-../shared/data}
OUT=${OUT:-runs/exits}
mkdir -p "$OUT"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # the numbers shown are those of one thread

head -n 6000 "$DATA/sst2/train.jsonl" >"$OUT/sst2_train.jsonl"
sed -n '6001,10000p' "$DATA/sst2/train.jsonl" >"$OUT/sst2_modules.jsonl"
head -n 3000 "$DATA/ag_news/train.jsonl" >"$OUT/ag_train.jsonl"
sed -n '3001,4000p' "$DATA/ag_news/train.jsonl" >"$OUT/ag_modules.jsonl"
sed -n '4001,4999p' "$DATA/ag_news/train.jsonl" >"$OUT/ag_calibration.jsonl"

robustexit train --data "$OUT/sst2_train.jsonl" --eval "$DATA/sst2/validation.jsonl" --labels negative,positive \
    --duplicates drop --backbone embedded:minilm --max-length 64 --out "$OUT/sst2"
robustexit fit-modules "$OUT/sst2" --data "$OUT/sst2_modules.jsonl" --duplicates drop --store "$OUT/outputs"
# SST-2's training data are phrases: thresholds tuned on them miss on sentences. Half of the sentences tunes, half is judged.
robustexit sweep "$OUT/sst2" --data "$DATA/sst2/validation.jsonl" --store "$OUT/outputs" --out "$OUT/sst2-sweep"

robustexit train --data "$OUT/ag_train.jsonl" --eval "$OUT/ag_calibration.jsonl" \
    --labels World,Sports,Business,Sci/Tech --backbone embedded:minilm --max-length 96 --out "$OUT/ag_news"
robustexit fit-modules "$OUT/ag_news" --data "$OUT/ag_modules.jsonl" --store "$OUT/outputs"
robustexit sweep "$OUT/ag_news" --data "$DATA/ag_news/test.jsonl" --calibration "$OUT/ag_calibration.jsonl" \
    --store "$OUT/outputs" --out "$OUT/ag_news-sweep"
