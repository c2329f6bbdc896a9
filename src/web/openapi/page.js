"use strict";
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
