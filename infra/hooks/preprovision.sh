#!/bin/sh
# Before the first provisioning: the wrapping key and the first administrator token. Both are made once per environment.
set -eu

if [ "${MIRRORPLANE_WRAPPING_KEY_IN_VAULT:-}" != true ] && [ -z "${MIRRORPLANE_WRAPPING_KEY:-}" ]; then
  # Only for the minutes until it is in the vault; postprovision.sh takes it out of the environment's file again.
  azd env set MIRRORPLANE_WRAPPING_KEY "$(openssl rand -base64 32)"
fi

if [ -z "${MIRRORPLANE_BOOTSTRAP_TOKEN_SHA256+set}" ]; then
  token=$(openssl rand -hex 32)
  azd env set MIRRORPLANE_BOOTSTRAP_TOKEN_SHA256 "$(printf %s "$token" | openssl dgst -sha256 -r | cut -d ' ' -f 1)"
  echo "The first administrator token, shown this once: $token"
fi
