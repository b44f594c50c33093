# SPDX-License-Identifier: MIT
#
# tables.awk - samples (for the order in which benches, rows and competitors came) and their summary, as tables of Markdown;
# and for gnuplot, files of rows: name, then median, 10th and 90th percentile of each competitor. See tables.

function number(value)
{
	if (value == int(value))
		return sprintf("%d", value)
	return value >= 1000 ? sprintf("%.0f", value) : sprintf(value >= 100 ? "%.0f" : value >= 10 ? "%.1f" : "%.2f", value)
}

FNR == NR {
	if (!(($1) in bench_seen)) {
		bench_seen[$1] = 1
		benches[++bench_count] = $1
	}
	if (!(($1, $2) in row_seen)) {
		row_seen[$1, $2] = 1
		rows[$1, ++row_count[$1]] = $2
	}
	if (!(($1, $3) in competitor_seen)) {
		competitor_seen[$1, $3] = 1
		competitors[$1, ++competitor_count[$1]] = $3
	}
	next
}

{
	unit[$1] = $4
	median[$1, $2, $3] = $6
	low[$1, $2, $3] = $7
	high[$1, $2, $3] = $8
	samples[$1, $2, $3] = $5
}

function rank(name)
{
	return name ~ /^Thaw(, none|, no image)?$/ ? 0 : name ~ /^Thaw,/ ? 1 : name ~ /^Thaw before/ ? 2 : 3
}

# Thaw first, then the version before, then the others as they came.
function sort_competitors(bench,    i, j, name)
{
	for (i = 2; i <= competitor_count[bench]; i++) {
		name = competitors[bench, i]
		for (j = i - 1; j > 0 && rank(competitors[bench, j]) > rank(name); j--)
			competitors[bench, j + 1] = competitors[bench, j]
		competitors[bench, j + 1] = name
	}
}

function cell(bench, row, competitor, base,    key)
{
	key = bench SUBSEP row SUBSEP competitor
	if (!(key in median))
		return "-"
	return number(median[key]) (low[key] == high[key] ? "" : " (" number(low[key]) "-" number(high[key]) ")") \
		(base > 0 && key != base_key ? sprintf(" x%.2f", median[key] / base) : "")
}

function print_bench(bench,    r, c, line, rule, base, row, name, key, file)
{
	file = bench
	gsub(/[^A-Za-z0-9]+/, "-", file)
	file = pictures "/" file ".dat"
	line = "| " unit[bench] " |"
	rule = "|---|"
	printf "# %s, %s\n", bench, unit[bench] > file
	printf "row" > file
	for (c = 1; c <= competitor_count[bench]; c++) {
		line = line " " competitors[bench, c] " |"
		rule = rule "---|"
		printf "\t\"%s\"\tlow\thigh", competitors[bench, c] > file
	}
	printf "\n" > file
	printf "\n## %s\n\n%s\n%s\n", bench, line, rule
	for (r = 1; r <= row_count[bench]; r++) {
		row = rows[bench, r]
		line = "| " row " |"
		base = 0
		printf "\"%s\"", row > file
		for (c = 1; c <= competitor_count[bench]; c++) {
			name = competitors[bench, c]
			key = bench SUBSEP row SUBSEP name
			if (!base && (key in median)) {
				base = median[key]
				base_key = key
			}
			line = line " " cell(bench, row, name, base) " |"
			if (key in median)
				printf "\t%g\t%g\t%g", median[key], low[key], high[key] > file
			else
				printf "\tNaN\tNaN\tNaN" > file
		}
		printf "\n" > file
		print line
	}
	close(file)
}

# The version of Thaw that was measured beside this one; what is the same is left out.
function print_before(bench,    r, c, name, before, key, apart)
{
	for (r = 1; r <= row_count[bench]; r++)
		for (c = 1; c <= competitor_count[bench]; c++) {
			name = competitors[bench, c]
			before = name
			key = bench SUBSEP rows[bench, r] SUBSEP name
			if (name !~ /^Thaw(,|$)/ || !sub(/^Thaw/, "Thaw before", before) || !(key in median) ||
			    !((bench, rows[bench, r], before) in median))
				continue
			if (median[key] == median[bench, rows[bench, r], before])
				continue
			if (!before_count++)
				printf "\n## Before and now\n\n| | before | now | now / before |\n|---|---|---|---|\n"
			apart = low[key] > high[bench, rows[bench, r], before] || high[key] < low[bench, rows[bench, r], before]
			printf "| %s: %s%s, %s | %s | %s | %.2f%s |\n", bench, rows[bench, r], substr(name, 5), unit[bench],
				cell(bench, rows[bench, r], before, 0), cell(bench, rows[bench, r], name, 0),
				median[key] / median[bench, rows[bench, r], before], samples[key] < 3 ? " (too few samples)" : apart ? "" : " (within the spread)"
		}
}

END {
	for (b = 1; b <= bench_count; b++) {
		sort_competitors(benches[b])
		print_bench(benches[b])
	}
	for (b = 1; b <= bench_count; b++)
		print_before(benches[b])
}
