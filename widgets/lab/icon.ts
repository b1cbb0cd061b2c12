// The logo: a table column with an arrow out of it.

import { LabIcon } from "@jupyterlab/ui-components";

const drawLogo = (column: string, arrow: string) => `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 16 16">
  <path class="${column}" fill="#616161" d="M2 2h5v3H2zM2 6.5h5v3H2zM2 11h5v3H2z"/>
  <path class="${arrow}" fill="#616161" d="M8.5 7.25h3.2L10.3 5.8l1-1L14.6 8l-3.3 3.2-1-1 1.4-1.45H8.5z"/>
</svg>`;

/** In the colour of the sidebar's other icons. */
export const icon = new LabIcon({ name: "nbllm:icon", svgstr: drawLogo("jp-icon3", "jp-icon3") });

/** In colour, like the launcher's other cards. */
export const cardIcon = new LabIcon({ name: "nbllm:card", svgstr: drawLogo("jp-icon3", "jp-icon-brand0") });
