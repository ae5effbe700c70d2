/// A page in one file: style and script inside, nothing fetched.
struct HTMLPage {
  var title: String
  var body: HTML

  /// What a browser lets this page do, should a text ever get into it as markup: no script and no style sheet but these
  /// two, which are known by their hashes, and no request. `PageTests` says which hashes they have to be. Bars and
  /// pictures are drawn by style attributes, which can fetch nothing.
  private static let policy = """
    default-src 'none'; script-src 'sha256-lyF2mOPJtRibzgwgAO/QsZsLnnCOf+bW6sTZ9dUIIlQ='; \
    style-src 'unsafe-inline'; style-src-elem 'sha256-v41tg3T7CX1W0kr9JMiwwfj7pglwgoVjC1kEUPpRSl4='; \
    style-src-attr 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'
    """

  var text: String { markup.text }

  private var markup: HTML {
    """
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta http-equiv="Content-Security-Policy" content="\(Self.policy)">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <meta name="generator" content="kvmclock">
    <title>\(title)</title>
    <link rel="icon" href="data:,">
    <style>
    \(Self.style)
    </style>
    </head>
    <body>
    \(body)
    <script>
    \(Self.script)
    </script>
    </body>
    </html>

    """
  }

  /// The page says all without it: a filter, rules that open when a link leads to them, and when they are printed.
  private static let script: HTML = """
    (() => {
      const rules = [...document.querySelectorAll(".rule")];
      const filter = document.getElementById("filter");
      if (filter) {
        const text = filter.querySelector("[type=search]");
        const boxes = [...filter.querySelectorAll("[type=checkbox]")];
        const apply = () => {
          const word = text.value.toUpperCase();
          for (const rule of rules) {
            const box = boxes.find(box => rule.classList.contains(box.value));
            rule.hidden = !(box && box.checked && rule.textContent.toUpperCase().includes(word));
          }
          for (const topic of document.querySelectorAll(".topic"))
            topic.hidden = !topic.querySelector(".rule:not([hidden])");
        };
        filter.hidden = false;
        filter.addEventListener("input", apply);
        filter.addEventListener("submit", event => event.preventDefault());
      }
      const reveal = () => {
        const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
        if (!target) return;
        target.hidden = false;
        if (target.closest(".topic")) target.closest(".topic").hidden = false;
        if (target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
      };
      addEventListener("hashchange", reveal);
      reveal();
      let closed = [];
      addEventListener("beforeprint", () => {
        closed = [...document.querySelectorAll(".rule.known:not([open])")];
        for (const rule of closed) rule.open = true;
      });
      addEventListener("afterprint", () => { for (const rule of closed) rule.open = false; });
    })();
    """
}
