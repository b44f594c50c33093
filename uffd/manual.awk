# SPDX-License-Identifier: MIT
#
# manual.awk - the page thaw(3) out of thaw.3, which is written by hand, and of the headers that are named before it: its
# section FUNCTIONS has each function that they declare, with the comment above it, and a type stands where the page names it.
# So page and headers cannot differ, and there is no function of which nothing is said. thaw_vm(3) is made in the same way, of vm/embed/thaw_vm.h.
#
#	awk -f manual.awk thaw.h thaw_image.h thaw_process.h thaw_frozen.h thaw_mirror.h thaw_fill.h thaw.3

function escaped(text)
{
	gsub(/\\/, "\\e", text)
	gsub(/-/, "\\-", text)
	return text
}

# Words, each sentence on a line of its own; a blank line begins a paragraph.
function paragraphs(text,	words, count, out, column, i, sentence)
{
	out = ""
	column = sentence = 0
	count = split(text, words, /[ \t]+/)
	for (i = 1; i <= count; i++) {
		if (words[i] == "")
			continue
		if (words[i] == "\n") {
			out = out (column ? "\n" : "") ".Pp\n"
			column = sentence = 0
			continue
		}
		if (column && (sentence || column + length(words[i]) > 76)) {
			out = out "\n"
			column = 0
		}
		out = out (column ? " " : words[i] ~ /^[.']/ ? "\\&" : "") escaped(words[i])
		column += length(words[i]) + 1
		sentence = words[i] ~ /[.?!]$/
	}
	return out (column ? "\n" : "")
}

# The macro line of a declaration: type, name and each argument as one word.
function heading(declaration,	at, type, name, arguments, one, depth, i, c)
{
	gsub(/[ \t\n]+/, " ", declaration)
	sub(/^THAW_PUBLIC /, "", declaration)
	match(declaration, /thaw_[a-z_]+\(/)
	type = substr(declaration, 1, RSTART - 1)
	name = substr(declaration, RSTART, RLENGTH - 1)
	arguments = substr(declaration, RSTART + RLENGTH)
	sub(/ $/, "", type)
	depth = 0
	one = ""
	at = ""
	for (i = 1; i <= length(arguments); i++) {
		c = substr(arguments, i, 1)
		if (c == "(")
			depth++
		if ((c == "," && !depth) || (c == ")" && !depth)) {
			sub(/^ /, "", one)
			at = at " \"" one "\""
			one = ""
			if (c == ")")
				break
			continue
		}
		if (c == ")")
			depth--
		one = one c
	}
	return ".It Ft \"" type "\" Fn " name at "\n"
}

FNR == 1 { inside = 0; comment = ""; declaration = ""; type = "" }

FILENAME !~ /\.h$/ {
	if ($0 == ".\\\"@functions")
		printf "%s", functions
	else if (/^\.\\"@type /) {
		if (!($2 in types)) {
			print "no type " $2 " in the headers" >"/dev/stderr"
			exit failed = 1
		}
		printf ".Bd -literal\n%s.Ed\n", types[$2]
	} else
		print
	next
}

# A type of some lines: under its name, or that of the first value of an enum without one.
type == "" && /^(struct|enum).* \{/ {
	type = $2
	lines = ""
}
type != "" {
	if (type == "{" && $1 ~ /^[A-Z]/)
		type = $1
	line = escaped($0)
	gsub(/^\t/, "    ", line)
	gsub(/\t/, "        ", line)
	lines = lines line "\n"
	if (/^\};/) {
		types[type] = lines
		type = ""
	}
	next
}

declaration != "" || /^THAW_PUBLIC / {
	declaration = declaration " " $0
	if (/;[ \t]*$/) {
		headings = heading(substr(declaration, 2))
		if (comment == "" && last == "") {
			print FILENAME ": nothing is said above" declaration >"/dev/stderr"
			failed = 1
		}
		# Functions that follow each other share what is said above the first.
		if (comment == "" && last != "")
			functions = substr(functions, 1, length(functions) - length(last)) headings last
		else {
			last = paragraphs(comment)
			functions = functions headings last
		}
		declaration = comment = ""
	}
	next
}

/^\/\*/ { inside = 1; comment = ""; last = "" }
inside {
	line = $0
	ends = line ~ /\*\//
	sub(/[ \t]*\*\/.*$/, "", line)
	sub(/^[ \t]*\/?\*+ ?/, "", line)
	comment = comment (line ~ /^[ \t]*$/ ? (comment == "" || ends ? "" : " \n ") : " " line)
	if (ends)
		inside = 0
	next
}
# Of what a function makes: the comment above it is of both.
/^struct [a-z_]+;/ { next }
{ comment = last = "" }

END { exit failed }
