// How long is measured: as long as everybody has in every run, or longer for who sets SLUICE_E2E_LONG.

export const IS_LONG = process.env["SLUICE_E2E_LONG"] !== undefined;
