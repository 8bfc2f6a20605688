#!/usr/bin/env bash
# Makes the files of this folder anew: one text, by programs of all kinds, and what pdftotext and
# pandoc read in them. On Debian: apt-get install --no-install-recommends libreoffice-writer-nogui
# pandoc chromium poppler-utils texlive-latex-recommended lmodern
set -euo pipefail
cd "$(dirname "$0")"
export SOURCE_DATE_EPOCH=1700000000 HOME="${TMPDIR:-/tmp}/asterism-files"
mkdir -p "$HOME"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The text: chapters of Walden, which is in nobody's copyright, each with a fact of its own, and one
# of everything that a format has.
python3 - ../../../../examples/walden.txt > "$work/text.md" <<'PY'
import re, sys
prose = open(sys.argv[1], encoding="utf-8").read()[2000:60000]
sentences = [s for s in re.split(r"(?<=[.!?]) ", prose) if 20 < len(s) < 300 and s.isascii()]
# Facts are hidden in that file, too.
sentences = [s for s in sentences if not re.search(r"\d|Lisbon|Okafor", s)]
facts = {
    2: "The access code for the Oslo archive is 90571.",
    4: "The secret word of Daniel Larsen is clever-candle.",
    5: "The access code for the Lisbon vault is 48213.",
}
titles = ["The Pond", "Économie", "Where I Lived", "Reading", "Sounds", "Solitude"]
print('---\ntitle: "A Report from the Pond"\nlang: en\n---\n')
at = iter(sentences)
for number, title in enumerate(titles):
    print(f"# {title}\n")
    for paragraph in range(9):
        words = [next(at) for _ in range(5)]
        if paragraph == 5 and number in facts:
            words.insert(2, facts[number])
        print(" ".join(words), "\n")
    if number == 0:
        print("A naïve café owner said: “Où est l’hôtel?” The file snake_case_name.txt costs £5.[^1]\n")
        print("[^1]: Footnotes are read, too.\n")
    if number == 1:
        print("| Article | Price | Bought |\n|---------|-------|--------|\n"
              "| Boards | 8.03 | used |\n| Laths | 1.25 | new |\n| Nails | 3.90 | new |\n")
        print("- Shelter\n- Fuel\n- Clothing\n\n1. Plant *beans*.\n2. **Hoe** them.\n")
        print("## Accounts\n\nBelow a second heading.\n\n```\nfor x in range(10):\n    total_sum += x\n```\n")
PY

pandoc "$work/text.md" --standalone --wrap=none -o page.html
pandoc "$work/text.md" -o pandoc.docx
pandoc "$work/text.md" -o book.epub
pandoc "$work/text.md" -t epub2 -o book2.epub
pandoc "$work/text.md" -V geometry:margin=3cm -o tex.pdf
chromium --headless --no-sandbox --disable-gpu --no-pdf-header-footer \
  --print-to-pdf=chromium.pdf "file://$PWD/page.html" 2> /dev/null
# LibreOffice's own: from its own format, so that nothing of pandoc's file is left.
pandoc "$work/text.md" -o "$work/writer.odt"
for kind in docx pdf html; do
  soffice --headless --convert-to "$kind" --outdir . "$work/writer.odt" > /dev/null
done
# Two columns, small print, ligatures, hyphens; and a page of a picture and nothing else.
cat > "$work/columns.tex" <<'TEX'
\documentclass[twocolumn]{article}
\usepackage[T1]{fontenc}
\begin{document}
\title{Efficient offices}\author{A. N. Author}\maketitle
TEX
sed -e 's/^[#|`-].*//; s/^\[.*//; s/[_&%$£#^]/ /g; s/“\|”/"/g; s/é/e/g; s/ï/i/g; s/’/ /g; s/ù/u/g; s/ô/o/g; s/^---//' \
  "$work/text.md" | head -n 60 >> "$work/columns.tex"
cat >> "$work/columns.tex" <<'TEX'
\clearpage\thispagestyle{empty}\onecolumn\thispagestyle{empty}\rule{9cm}{9cm}\clearpage
The efficient office affords a difficult coffee. \end{document}
TEX
pdflatex -interaction=batchmode -output-directory="$work" "$work/columns.tex" > /dev/null
cp "$work/columns.pdf" columns.pdf
# A page of nothing but a picture.
printf '%s\n' '\documentclass{article}\pagestyle{empty}\begin{document}\rule{9cm}{9cm}\newpage' \
  '\rule{3cm}{3cm}\end{document}' > "$work/scanned.tex"
pdflatex -interaction=batchmode -output-directory="$work" "$work/scanned.tex" > /dev/null
cp "$work/scanned.pdf" scanned.pdf

mkdir -p read
for file in tex chromium writer columns; do pdftotext "$file.pdf" "read/$file.pdf.txt"; done
for file in pandoc.docx writer.docx book.epub page.html writer.html; do
  pandoc "$file" -t plain --wrap=none -o "read/$file.txt"
done
