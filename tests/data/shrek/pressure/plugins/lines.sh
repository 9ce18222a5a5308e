function underline() {
  printf '%s\n%s\n' "$1" "${1//?/=}"
}
