"use strict";
// Swagger UI is dark below an element of this class. Its own switch belongs to a top bar that this page does not have. The
// page runs this before it is painted, so that it is not white first.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
// Addresses are relative, so that the page also works behind a proxy that adds a prefix. Without
// `validatorUrl: null` Swagger UI would show the document to a service of its makers.
window.onload = () => {
  window.ui = SwaggerUIBundle({
    url: "openapi.json",
    dom_id: "#page",
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout",
    deepLinking: true,
    tryItOutEnabled: true,
    validatorUrl: null,
  });
};
