# SPDX-License-Identifier: MIT
# gnuplot -c plot.gp DATA OUT.svg - one bench (tables.awk): a group of bars for each row, one for each competitor, logarithmic.
title = system("head -n 1 '" . ARG1 . "' | cut -c3-")
rows = int(system("tail -n +3 '" . ARG1 . "' | wc -l"))
competitors = (int(system("sed -n 2p '" . ARG1 . "' | awk -F'\t' '{ print NF }'")) - 1) / 3
set terminal svg size 400 + 60 * rows + 14 * rows * competitors, 480 font "sans-serif,12" background "white"
set output ARG2
set datafile separator "\t"
set title title
set logscale y
set grid ytics
# A bar begins below the lowest value, so that each can be seen.
lowest = real(system("tail -n +3 '" . ARG1 . "' | cut -f2- | tr '\t' '\n' | grep -v NaN | awk '$1 > 0' | sort -g | head -n 1"))
set yrange [lowest / 2:*]
set style data histograms
set style histogram errorbars gap 2 lw 1
set style fill solid 0.7 border -1
set key outside right top
set xtics rotate by -25
plot for [c = 1:competitors] ARG1 using (column(3 * c - 1)):(column(3 * c)):(column(3 * c + 1)):xtic(1) title columnheader(3 * c - 1)
