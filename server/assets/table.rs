// Made by client-js/demo/build.mjs.
[
    Asset {
        name: "demo-25c2ede1ddc4.js",
        content_type: "text/javascript; charset=utf-8",
        gzip: include_bytes!("demo-25c2ede1ddc4.js.gz"),
    },
    Asset {
        name: "demo-fc7ec0f1f276.css",
        content_type: "text/css; charset=utf-8",
        gzip: include_bytes!("demo-fc7ec0f1f276.css.gz"),
    },
    Asset {
        name: "icon-311f86cfcb56.svg",
        content_type: "image/svg+xml",
        gzip: include_bytes!("icon-311f86cfcb56.svg.gz"),
    },
    Asset {
        name: "inspector-7fca16e82ad1.js",
        content_type: "text/javascript; charset=utf-8",
        gzip: include_bytes!("inspector-7fca16e82ad1.js.gz"),
    },
    Asset {
        name: "inspector-83fd9e8c9a9f.css",
        content_type: "text/css; charset=utf-8",
        gzip: include_bytes!("inspector-83fd9e8c9a9f.css.gz"),
    },
    Asset {
        name: "licences-163f30618f97.txt",
        content_type: "text/plain; charset=utf-8",
        gzip: include_bytes!("licences-163f30618f97.txt.gz"),
    },
]
