# What shrek's job scripts find around them, set up for a script that was made from one of shrek's files.
# It is sourced: `source ./muleteer-shrek.sh`. Every value comes from the environment or from a file; none is text here.
# shellcheck shell=bash

shrek_home=$PWD

# The job's own log, under the name that scripts know. The script runs once more, with its output going through tee.
if [ -z "${MULETEER_SHREK_LOG:-}" ]; then
  export MULETEER_SHREK_LOG="$shrek_home/_${name//\//_}.log"
  "$BASH" "$0" "$@" 2>&1 | tee "$MULETEER_SHREK_LOG"
  exit "${PIPESTATUS[0]}"
fi

echo "Job ${name:-} of ${MULETEER_LAUNCH:-} on $(uname -n)"

shrek_status_code=0
shrek_count=0
#: What shrek gave its scripts as $1, $2 and so on.
shrek_arguments=("${MULETEER_JOB_INDEX:-0}")

export uniqueId="${MULETEER_JOB_INDEX:-0}"
export shrek_tag="${MULETEER_LAUNCH:-}"
export shrek_username="${USER:-$(id -un)}"
export shrek_basename="${basename:-None}"
# The first part of all names on PanDA, of a user or of a group; elsewhere there is only the launch's name.
rucio_dsname=$(sed -n 's/^ *"outDS": "\(.*\)",*$/\1/p' muleteer/submit.json 2>/dev/null)
export rucio_dsname="${rucio_dsname:-$shrek_tag}"

# Parameters that a launch may leave out: an empty one is not set at all.
shrek_optional() {
  local each
  for each in "$@"; do
    [ -n "${!each:-}" ] || unset "$each"
  done
}

# shrek_input NAME LIST [TASK]: the files of the next input, as the array IN1, IN2 and so on.
shrek_input() {
  local position file path
  shrek_count=$((shrek_count + 1))
  declare -g "IN${shrek_count}_name=$1" "IN${shrek_count}_task=${3:-${1%/outDS}}"
  export "IN${shrek_count}_name" "IN${shrek_count}_task"
  declare -g -n shrek_files="IN$shrek_count"
  mapfile -t shrek_files < "$2" || exit
  for position in "${!shrek_files[@]}"; do
    path=${shrek_files[position]}
    file=${path##*/}
    # the file lies beside the job; what has an address stays there
    case $path in *://*) file=$path ;; esac
    shrek_files[position]=$file
  done
  local IFS=,
  shrek_arguments+=("${shrek_files[*]}")
  unset -n shrek_files
}

# shrek_resources FOLDER: what the job's Resources named, beside the job; an input of the same name goes before it.
shrek_resources() {
  cp -RLn "$1/." . || true
}

# addmetadata KEY VALUE: a line more for PanDA's monitor, and for the file $metalogger if there is one.
addmetadata() {
  local key value line
  key=$(shrek_json "$1")
  value=$(shrek_json "$2")
  sed -i '$ d' "$shrek_home/userJobMetadata.json"
  printf ', "%s": "%s"\n}\n' "$key" "$value" >> "$shrek_home/userJobMetadata.json"
  line="[ $(date) ] $shrek_tag ${name:-} $uniqueId: \"$key\" : \"$value\""
  printf '%s\n' "$line"
  if [ -n "${metalogger:-}" ]; then
    printf '%s\n' "$line" >> "$metalogger"
  fi
}

shrek_json() {
  local text=$1
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\n'/\\n}
  text=${text//$'\t'/\\t}
  printf '%s' "${text//[[:cntrl:]]/ }"
}

printf '{ "shrek_begin_metafile": "1"\n}\n' > userJobMetadata.json
addmetadata shrek_tag "$shrek_tag"
addmetadata shrek_uniqueId "$uniqueId"
addmetadata shrek_start_time "$(date)"
