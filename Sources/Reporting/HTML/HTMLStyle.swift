extension HTMLPage {
  static let style: HTML = colours + layout + verdicts + pictures + media

  private static let colours: HTML = """
    :root {
      color-scheme: light dark;
      --ground: #f6f6f4; --card: #ffffff; --ink: #1d2125; --soft: #5a636d; --line: #dfe1e4;
      --faint: #eceef0; --link: #1f5fae;
      --holds: #1b7f4d; --observed: #2f6fb5; --broken: #c62f22; --known: #b06f00;
      --nottested: #8a929b; --inconclusive: #7b46ad;
      --s0: #2f6fb5; --s1: #d0661a; --s2: #1b8a6b; --s3: #a23b8f; --s4: #7a6a00; --s5: #5c5cc4;
    }
    @media (prefers-color-scheme: dark) {
      :root {
        --ground: #14171a; --card: #1d2125; --ink: #e8eaec; --soft: #a2abb4; --line: #343a41;
        --faint: #262b30; --link: #7fb4f0;
        --holds: #4cc38a; --observed: #6aa9ec; --broken: #ff7a6b; --known: #e5a93b;
        --nottested: #7f8891; --inconclusive: #bb8ced;
        --s0: #6aa9ec; --s1: #f0924f; --s2: #4cc3a0; --s3: #e07fcf; --s4: #d4bf4a; --s5: #9d9df5;
      }
    }
    .holds { --tone: var(--holds) } .observed { --tone: var(--observed) }
    .broken { --tone: var(--broken) } .known { --tone: var(--known) }
    .nottested { --tone: var(--nottested) } .inconclusive { --tone: var(--inconclusive) }

    """

  private static let layout: HTML = """
    * { box-sizing: border-box }
    html { scroll-behavior: smooth; scroll-padding-top: 1rem; -webkit-text-size-adjust: 100% }
    body { margin: 0; background: var(--ground); color: var(--ink);
      font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif }
    code, kbd { font: .86em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
      overflow-wrap: anywhere }
    a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: 2px }
    .wrap { max-width: 1120px; margin: 0 auto; padding: 0 1.25rem }
    .hero { background: var(--card); border-top: 6px solid var(--tone); border-bottom: 1px solid var(--line);
      padding: 1.1rem 0 1.4rem }
    .hero .brand { margin: 0 0 1.1rem; color: var(--soft); letter-spacing: .01em }
    .hero .brand b { color: var(--ink) }
    .answer { display: flex; gap: 1.1rem; align-items: center }
    .seal { flex: none; width: 4rem; height: 4rem; border-radius: 50%; display: grid; place-items: center;
      font-size: 2.1rem; line-height: 1; color: var(--card); background: var(--tone) }
    h1 { margin: 0; font-size: clamp(1.6rem, 4.5vw, 2.5rem); line-height: 1.15; letter-spacing: -.02em }
    .lead { margin: .3rem 0 0; font-size: 1.12rem; color: var(--soft) }
    .alert { margin: .3rem 0 0; color: var(--broken); font-weight: 600 }
    .meter { display: flex; gap: 2px; height: .75rem; margin: 1.2rem 0 .6rem; border-radius: .4rem;
      overflow: hidden }
    .meter i { background: var(--tone); min-width: 4px; flex-basis: 0 }
    ul.counts, ul.why, ul.legend { list-style: none; margin: 0; padding: 0 }
    ul.counts { display: flex; flex-wrap: wrap; gap: .2rem 1.3rem; color: var(--soft) }
    ul.counts b { color: var(--tone); font-size: 1.15rem; font-variant-numeric: tabular-nums }
    ul.why { margin: 1.1rem 0 0; display: grid; gap: .45rem }
    ul.why li { border-left: 3px solid var(--tone); padding: .05rem 0 .05rem .8rem }
    ul.why em { font-style: normal; color: var(--broken) }
    ul.why a code { font-weight: 600; white-space: nowrap }
    .again { margin: .8rem 0 0 } .again kbd { overflow-wrap: anywhere }
    dl.facts { display: flex; flex-wrap: wrap; gap: .5rem 1.8rem; margin: 1.2rem 0 0 }
    dl.facts dt { font-size: .78rem; color: var(--soft) }
    dl.facts dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
    nav.wrap { display: flex; flex-wrap: wrap; gap: .25rem 1.3rem; padding-top: .9rem; padding-bottom: .2rem }
    :target { scroll-margin-top: 1rem }
    main > section { margin: 2rem 0 2.8rem }
    h2 { font-size: 1.45rem; letter-spacing: -.01em; margin: 0 0 .6rem }
    h3 { font-size: 1rem; margin: 0 0 .6rem }
    .note { color: var(--soft); max-width: 46rem; margin: 0 0 1rem }

    """

  private static let verdicts: HTML = """
    #filter { display: flex; flex-wrap: wrap; gap: .4rem .9rem; align-items: center; margin: 0 0 1.2rem }
    #filter[hidden] { display: none }
    #filter [type=search] { font: inherit; color: inherit; background: var(--card);
      border: 1px solid var(--line); border-radius: .5rem; padding: .3rem .7rem; min-width: 13rem }
    #filter label { color: var(--soft); white-space: nowrap }
    #filter [type=checkbox] { accent-color: var(--tone) }
    .topic { margin: 0 0 1.6rem }
    .topic h3 { display: flex; align-items: center; gap: .9rem }
    .topic h3 .meter { flex: 1; max-width: 12rem; height: .4rem; margin: 0 }
    .rule { background: var(--card); border: 1px solid var(--line); border-left: 4px solid var(--tone);
      border-radius: .45rem; margin: 0 0 .35rem }
    .rule summary { cursor: pointer; padding: .42rem .8rem; display: grid; gap: 0 .65rem; align-items: baseline;
      grid-template-columns: 1.1rem minmax(0, 19.5rem) minmax(0, 1fr); list-style: none }
    .rule summary::-webkit-details-marker { display: none }
    .rule summary code { font-weight: 600 }
    .rule summary:hover { background: var(--faint) }
    .mark { color: var(--tone); font-weight: 700; text-align: center }
    .said { color: var(--soft); white-space: nowrap; overflow: hidden; text-overflow: ellipsis }
    .rule[open] .said { white-space: normal }
    .rule > :not(summary) { margin: .6rem 1rem }
    .rule .statement { font-size: 1.06rem; max-width: 52rem }
    .rule dl { display: grid; grid-template-columns: 5rem minmax(0, 1fr); gap: .3rem .8rem; margin: .8rem 1rem }
    .rule dt { color: var(--soft) } .rule dd { margin: 0; overflow-wrap: anywhere }
    kbd { background: var(--faint); padding: .15rem .45rem; border-radius: .3rem }
    .proof { border-left: 3px solid var(--tone); padding: .1rem 0 .1rem .9rem }
    .proof p { margin: .25rem 0; overflow-wrap: anywhere }
    .proof p b { display: inline-block; min-width: 4.8rem; font-weight: 500; color: var(--soft) }
    .gauge { display: grid; grid-template-columns: 20% 1fr 1fr 20%; font-size: .82rem; color: var(--soft);
      margin: .4rem 0; font-variant-numeric: tabular-nums }
    .gauge .track { grid-column: 1 / -1; position: relative; height: 1.1rem }
    .gauge .track::before { content: ""; position: absolute; left: 0; right: 0; top: .5rem; height: 1px;
      background: var(--line) }
    .gauge .band { position: absolute; left: 20%; right: 20%; top: .28rem; height: .5rem; border-radius: .25rem;
      background: color-mix(in srgb, var(--holds) 32%, var(--card)); border: 1px solid var(--holds) }
    .gauge .dot { position: absolute; top: .13rem; width: .8rem; height: .8rem; margin-left: -.4rem;
      border-radius: 50%; background: var(--ink); border: 2px solid var(--card) }
    .gauge.outside .dot { background: var(--broken) }
    .gauge .from { grid-column: 2 } .gauge .to { grid-column: 3; text-align: right }
    .gauge .at { grid-column: 1 / -1 }
    .gauge.outside .at { color: var(--broken) }
    table.margins { width: 100% } .margins th { text-align: left; font-weight: 400; white-space: nowrap }
    .margins td { padding: 0 .8rem; white-space: nowrap; text-align: right; font-variant-numeric: tabular-nums }
    .margins td:last-child { width: 100%; padding: 0 }
    .margins i { display: block; height: .55rem; border-radius: .3rem; background: var(--tone) }
    .history { margin: 0 0 1.4rem }
    .scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .45rem }
    table { border-collapse: collapse; font-size: .86rem }
    .history table { width: 100% }
    .history th { text-align: left; font-weight: 500; color: var(--soft) }
    .history td, .history th { padding: .25rem .7rem; vertical-align: top; white-space: nowrap;
      font-variant-numeric: tabular-nums }
    .history .what { white-space: normal; min-width: 22rem; color: var(--soft) }
    .history .what b { color: var(--ink) }
    .history tr.cited { background: color-mix(in srgb, var(--known) 14%, transparent) }
    .history tr:target { outline: 2px solid var(--known); outline-offset: -2px }
    .history td.wrong { color: var(--broken); font-weight: 600 }
    .history .what summary { cursor: pointer }
    .gap { color: var(--soft) }
    .matrix th { text-align: left; font-weight: 500; padding: .35rem .7rem; vertical-align: top }
    .matrix small { display: block; color: var(--soft); font-size: .92em; max-width: 34rem }
    .matrix td { padding: .35rem .7rem; color: var(--tone); vertical-align: top;
      font-variant-numeric: tabular-nums }
    .matrix tr + tr { border-top: 1px solid var(--line) }
    .matrix td.broken { background: color-mix(in srgb, var(--broken) 12%, var(--card)) }
    .matrix td.rules { color: var(--ink) } .missed { color: var(--broken) }
    .grid-table th { font-weight: 400; text-align: left; padding: .1rem .6rem; white-space: nowrap }
    .grid-table tr.names th { vertical-align: bottom; padding: .5rem .15rem }
    .grid-table tr.names span { writing-mode: sideways-lr; writing-mode: vertical-rl;
      transform: rotate(180deg); max-height: 11rem; overflow: hidden; text-overflow: ellipsis }
    .grid-table td { text-align: center; min-width: 1.7rem; padding: .1rem .2rem; color: var(--tone);
      border: 1px solid var(--line) }
    .grid-table td.broken { background: var(--broken); color: var(--card); font-weight: 700 }
    .grid-table td.known, .grid-table td.inconclusive {
      background: color-mix(in srgb, var(--tone) 20%, var(--card)) }
    .grid-table th.kind { font-size: .92em; white-space: normal; vertical-align: bottom; color: var(--soft);
      border-left: 1px solid var(--line); min-width: 6rem }
    .alike { margin-top: .8rem } .alike summary { cursor: pointer }
    .timings table { margin: .6rem 0; width: min(100%, 40rem) }
    .timings th { font-weight: 400; text-align: left; white-space: nowrap }
    .timings td { text-align: right; padding: 0 .8rem; white-space: nowrap; font-variant-numeric: tabular-nums }
    .timings td:last-child { width: 100%; padding: 0 }
    .timings td.fact { text-align: left; white-space: normal; padding: 0 .8rem; overflow-wrap: anywhere }
    .timings i { display: block; height: .55rem; border-radius: .3rem; background: var(--observed) }

    """

  private static let pictures: HTML = """
    #finding figure { max-width: 48rem } #finding figure h3 { font-size: 1.25rem }
    .proof figure { max-width: 40rem; margin: .5rem 0 }
    svg path.allowed, .key.allowed { fill: color-mix(in srgb, var(--holds) 26%, var(--card)); stroke: none;
      opacity: 1; --c: color-mix(in srgb, var(--holds) 40%, var(--card)) }
    svg path.predicted { stroke: var(--holds); stroke-dasharray: 4 3; opacity: 1 }
    svg path.clock { stroke-width: 2.2; opacity: 1 }
    svg .cause { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 2 3 }
    svg rect.expected { fill: var(--holds) } svg text.expected { fill: var(--holds); font-weight: 600 }
    svg .deed { fill: var(--ink); font-weight: 600 } svg .amount { fill: var(--broken); font-weight: 700 }
    svg line.arrow { stroke: var(--broken); stroke-width: 2 }
    svg path.arrow { stroke: var(--broken); stroke-width: 2; opacity: 1 }
    svg circle.wrong { fill: var(--broken) } .wrong { --c: var(--broken) } svg rect.bad { fill: var(--broken) }
    #map .parts { display: grid; gap: .25rem 1.6rem;
      grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)) }
    .tiles { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1.3fr); gap: .6rem; font-size: .86rem }
    .tiles span { overflow-wrap: anywhere }
    .tiles div { display: flex; flex-wrap: wrap; gap: 2px }
    .tile { width: 1.15rem; height: 1.15rem; border-radius: .2rem; display: grid; place-items: center;
      text-decoration: none; font-size: .74rem; color: var(--card); background: var(--tone) }
    details.topic > summary { cursor: pointer } details.topic > summary h3 { display: inline-flex; width: 90% }
    #time .parts, #soak .parts, #spread .parts, #updates .parts { display: grid; gap: 1.1rem;
      grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)) }
    figure { margin: 0; padding: 1rem 1.1rem; background: var(--card); border: 1px solid var(--line);
      border-radius: .6rem; min-width: 0 }
    figure svg { display: block; width: 100%; height: auto }
    figcaption { color: var(--soft); font-size: .9rem; margin-top: .5rem }
    figcaption b { color: var(--ink) }
    .legend { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; font-size: .86rem; color: var(--soft) }
    .key { display: inline-block; width: .75rem; height: .75rem; border-radius: .2rem; margin-right: .4rem;
      background: var(--c) }
    .s0 { --c: var(--s0) } .s1 { --c: var(--s1) } .s2 { --c: var(--s2) }
    .s3 { --c: var(--s3) } .s4 { --c: var(--s4) } .s5 { --c: var(--s5) }
    .stable { --c: var(--holds) } .unstable { --c: var(--nottested) } .halted { --c: var(--broken) }
    .write { --c: var(--ink) }
    svg text { font-family: inherit; font-size: 12px; fill: var(--soft) }
    svg .label { font-size: 12px; fill: var(--ink) }
    svg .end { text-anchor: end } svg .middle { text-anchor: middle }
    svg .grid { stroke: var(--line); stroke-width: 1 }
    svg .zero { stroke: var(--soft); stroke-width: 1 }
    svg path { fill: none; stroke: var(--c); stroke-width: 1.4; stroke-linejoin: round; opacity: .55 }
    svg circle { fill: var(--c) }
    svg circle.hollow { fill: var(--card); stroke: var(--c); stroke-width: 1.4 }
    .key.hollow { background: none; border: 2px solid var(--soft); border-radius: 50% }
    svg rect { fill: var(--c) }
    svg rect.stable, svg rect.unstable { opacity: .75 }
    svg .update { stroke: var(--ink); stroke-width: 1.1 }
    svg .update.thin { stroke-width: .5; opacity: .6 }
    svg .setting { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 3 3; opacity: .6 }

    """

  private static let media: HTML = """
    @media (max-width: 46rem) {
      .wrap { padding: 0 1rem }
      .seal { width: 3rem; height: 3rem; font-size: 1.6rem }
      .rule summary { grid-template-columns: 1.1rem minmax(0, 1fr) }
      .rule summary .said { grid-column: 2 }
      .rule dl { grid-template-columns: minmax(0, 1fr); gap: 0 }
      .rule dd { margin-bottom: .5rem }
      figure { padding: .8rem .6rem }
      .topic h3 .meter { max-width: 6rem }
    }
    @media screen and (max-width: 46rem) { svg text, svg .label { font-size: 15px } }
    @media print {
      :root { --ground: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --faint: #eee;
        --link: #000; --holds: #1b7f4d; --observed: #2f6fb5; --broken: #c62f22; --known: #b06f00;
        --nottested: #777; --inconclusive: #7b46ad }
      * { print-color-adjust: exact; -webkit-print-color-adjust: exact }
      body { font-size: 9pt }
      nav, #filter { display: none !important }
      .wrap { max-width: none; padding: 0 }
      details.topic, .proof figure, .proof + .proof, #updates, #spread, #bounds, #run { display: none }
      #evidence:not(:has(.printed)), #evidence .history:not(.printed), #evidence tr:has(td):not(.printed) {
        display: none }
      #evidence .history { margin: 0 0 .7rem } #evidence table { font-size: 7.5pt }
      #evidence td, #evidence th { padding: .1rem .4rem } #evidence .what { min-width: 0; overflow-wrap: anywhere }
      #evidence summary { list-style: none }
      #finding figure { max-width: 32rem }
      #time .parts, #soak .parts {
        grid-template-columns: 1fr 1fr; gap: .7rem }
      figure { padding: .5rem .7rem }
      figure, .rule, .bound, .proof, tr { break-inside: avoid }
      h2, h3 { break-after: avoid }
      .hero { border-bottom: none }
      .said { white-space: normal }
      a { text-decoration: none }
    }
    """
}
