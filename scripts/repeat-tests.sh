#!/usr/bin/env bash
# Run the tests that use servers several times, each with a report in JUnit's form, and say how often each test failed.
#
#   scripts/repeat-tests.sh PYTHON TIMES FOLDER [options of pytest]
set -uo pipefail
cd "$(dirname "$0")/.."

python=$1 times=$2 folder=$3
shift 3
mkdir -p "$folder"
failed=0
for ((number = 1; number <= times; number++)); do
    "$python" -m pytest -q -m server --junitxml="$folder/$number.xml" "$@" >"$folder/$number.log" 2>&1 || failed=$((failed + 1))
    echo "run $number of $times: $(tail -n 1 "$folder/$number.log")"
done
sed -nE 's/^(FAILED|ERROR) (.*\]|[^ ]+)( - .*)?$/\2/p' "$folder"/*.log | sort | uniq -c | sort -rn
echo "$failed of $times runs failed; reports: $folder/*.xml"
exit $((failed > 0))
