// Made by client-js/demo/build.mjs.
[
    Asset {
        name: "demo-3b83ecef8b00.css",
        content_type: "text/css; charset=utf-8",
        gzip: include_bytes!("demo-3b83ecef8b00.css.gz"),
    },
    Asset {
        name: "demo-a23fe32a4e6b.js",
        content_type: "text/javascript; charset=utf-8",
        gzip: include_bytes!("demo-a23fe32a4e6b.js.gz"),
    },
    Asset {
        name: "icon-311f86cfcb56.svg",
        content_type: "image/svg+xml",
        gzip: include_bytes!("icon-311f86cfcb56.svg.gz"),
    },
    Asset {
        name: "inspector-0266d5078fc2.js",
        content_type: "text/javascript; charset=utf-8",
        gzip: include_bytes!("inspector-0266d5078fc2.js.gz"),
    },
    Asset {
        name: "inspector-7dfd801d903b.css",
        content_type: "text/css; charset=utf-8",
        gzip: include_bytes!("inspector-7dfd801d903b.css.gz"),
    },
    Asset {
        name: "licences-163f30618f97.txt",
        content_type: "text/plain; charset=utf-8",
        gzip: include_bytes!("licences-163f30618f97.txt.gz"),
    },
]
