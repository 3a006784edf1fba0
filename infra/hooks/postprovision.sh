#!/bin/sh
# The vault has the wrapping key now: forget it here. Later deployments leave the vault's alone.
set -eu

azd env set MIRRORPLANE_WRAPPING_KEY ""
azd env set MIRRORPLANE_WRAPPING_KEY_IN_VAULT true
