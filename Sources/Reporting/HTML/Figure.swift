internal import ABIChecker

/// A picture with its title and what it says.
struct Figure {
  var id: String
  var title: String
  var caption: HTML
  var drawing: HTML
  /// Names of the series, in the order of their colours.
  var legend: [(kind: String, name: String)] = []

  var html: HTML {
    let entries = legend.map { (kind, name) -> HTML in
      "<li><i class=\"key \(kind)\"></i>\(name)</li>"
    }
    let key: HTML = entries.isEmpty ? "" : "<ul class=\"legend\">\(entries.joined())</ul>\n"
    return """
      <figure id="\(HTML.anchor(id))">
      <h3>\(title)</h3>
      \(drawing)
      \(key)<figcaption>\(caption)</figcaption>
      </figure>
      """
  }
}

/// The frame of a drawing with time to the right.
struct Frame {
  static let width = 520.0
  static let left = 56.0
  static let right = 510.0

  /// The horizontal axis with its marks: CLOCK_MONOTONIC_RAW since the history began.
  static func time(_ axis: Axis, bottom: Double, tops: [(Double, Double)]) -> [HTML] {
    let unit = TimeUnit(for: max(abs(axis.lower), abs(axis.upper)))
    var parts: [HTML] = []
    for tick in axis.ticks(6) where tick >= 0 {
      let x = axis.place(tick)
      parts += tops.map { SVG.line(x, $0.0, x, $0.1, "grid") }
      parts.append(SVG.text(x, bottom + 17, unit.text(tick), "tick middle"))
    }
    parts.append(
      SVG.text(right, bottom + 35, "CLOCK_MONOTONIC_RAW, \(unit.name)", "label end"))
    return parts
  }

  /// A vertical axis with its marks.
  static func values(_ axis: Axis, title: String) -> [HTML] {
    let unit = TimeUnit(for: max(abs(axis.lower), abs(axis.upper)))
    var parts = axis.ticks(4).flatMap { tick -> [HTML] in
      let y = axis.place(tick)
      return [
        SVG.line(left, y, right, y, tick == 0 ? "zero" : "grid"),
        SVG.text(left - 6, y + 3.5, unit.text(tick), "tick end"),
      ]
    }
    parts.append(SVG.text(left, axis.end - 7, "\(title), \(unit.name)", "label"))
    return parts
  }

  static func colour(_ index: Int) -> String { "s\(index % 6)" }
}

extension Figure {
  /// System time against CLOCK_MONOTONIC_RAW, and below what is left when that is taken away.
  static func residual(_ timeline: Timeline, line: HostLine) -> Figure? {
    let series = ClockSeries.all(in: timeline, line: line)
    let points = series.flatMap(\.points)
    guard points.count >= 4 else { return nil }
    let x = Axis(points.map(\.raw), from: Frame.left, to: Frame.right, least: 1000)
    let value = Axis(points.map(\.value), from: 160, to: 26, least: 1000)
    let last = points.map(\.raw).max() ?? 0
    let band = timeline.allowedDrift(over: last, error: line.error)
    let ends = [
      band.start.lowerBound, band.start.upperBound, band.end.lowerBound, band.end.upperBound,
    ]
    let residual = Axis(points.map(\.residual) + ends, from: 330, to: 206, least: 20)
    var parts = Frame.time(x, bottom: 330, tops: [(26, 160), (206, 330)])
    parts += Frame.values(value, title: "system time")
    parts += Frame.values(residual, title: "system time less CLOCK_MONOTONIC_RAW")
    parts.append(
      SVG.path(
        [
          (x.place(0), residual.place(ends[0])), (x.place(0), residual.place(ends[1])),
          (x.place(last), residual.place(ends[3])), (x.place(last), residual.place(ends[2])),
        ], "allowed"))
    parts += writes(timeline, x)
    for (index, one) in series.enumerated() {
      let kind = Frame.colour(index)
      parts.append(SVG.path(one.points.map { (x.place($0.raw), value.place($0.value)) }, kind))
      parts.append(
        SVG.path(one.points.map { (x.place($0.raw), residual.place($0.residual)) }, kind))
      for point in one.points {
        let title =
          "event \(point.event), \(one.name): \(TimeUnit.text(point.value)) on, "
          + "residual \(TimeUnit.text(point.residual))"
        let kind = point.isStable ? kind : "\(kind) hollow"
        parts.append(SVG.dot(x.place(point.raw), value.place(point.value), kind, title, r: 2))
        parts.append(SVG.dot(x.place(point.raw), residual.place(point.residual), kind, title))
      }
    }
    let worst = points.map { abs($0.residual) }.max() ?? 0
    let name = timeline.history.header.name
    return Figure(
      id: "time-\(name)", title: "System time in \(name)",
      caption: """
        \(points.count) readings; the largest difference is <b>\(TimeUnit.text(worst))</b>. Each series starts \
        at 0. The band is what rounding, the measured rate and the picture’s own precision \
        (±\(TimeUnit.text(line.error))) allow.
        """,
      drawing: SVG.drawing(
        Frame.width, 372, label: "System time against CLOCK_MONOTONIC_RAW in \(name)", parts),
      legend: series.enumerated().map { (Frame.colour($0.offset), $0.element.name) }
        + [("allowed", "allowed")]
        + (parts.contains { $0.text.contains("class=\"write\"") }
          ? [("write", "the guest wrote the MSR")] : [])
        + (points.contains { !$0.isStable }
          ? [("hollow", "without PVCLOCK_TSC_STABLE_BIT: may run ahead")] : []))
  }

  /// Where the guests wrote the MSR, along the axis of time.
  private static func writes(_ timeline: Timeline, _ x: Axis) -> [HTML] {
    guard let start = timeline.samples.first(where: { $0.tsc != nil })?.event.began.raw else {
      return []
    }
    let writes = timeline.history.events.filter(\.writesSystemTime).prefix(200)
    return writes.compactMap { event in
      let at = Double(Int64(bitPattern: event.ended.raw &- start))
      guard at >= x.lower, at <= x.upper else { return nil }
      return SVG.box(
        x.place(at) - 0.6, 330, 1.2, 5, "write",
        title: "event \(event.number): \(event.actor) wrote")
    }
  }
}

extension Figure {
  /// How far vCPUs' clocks are apart.
  static func spread(_ timeline: Timeline) -> Figure? {
    guard let spread = ClockSpread(timeline) else { return nil }
    let x = Axis(spread.points.map(\.raw), from: Frame.left, to: Frame.right, least: 1000)
    let y = Axis(spread.points.map(\.distance), from: 180, to: 26, least: 20)
    var parts = Frame.time(x, bottom: 180, tops: [(26, 180)])
    parts += Frame.values(y, title: "one vCPU's clock less another's")
    parts += spread.points.map { point in
      SVG.dot(
        x.place(point.raw), y.place(point.distance), Frame.colour(point.vcpu),
        "event \(point.event): vcpu\(point.vcpu) \(TimeUnit.text(point.distance))")
    }
    let name = timeline.history.header.name
    return Figure(
      id: "spread-\(name)", title: "\(spread.vcpus) vCPUs in \(name)",
      caption: """
        Each reading beside the record that another vCPU had read last, both computed at the same TSC: \
        \(spread.points.count) pairs of \(spread.vcpus) vCPUs, at most \
        <b>\(TimeUnit.text(spread.worst))</b> apart.
        """,
      drawing: SVG.drawing(
        Frame.width, 222, label: "The spread between vCPUs' clocks in \(name)", parts))
  }
}

extension Event {
  /// A guest's write of either MSR, which nothing refused.
  var writesSystemTime: Bool {
    guard case .wroteMSR(let msr, _, nil) = action else { return false }
    return msr.value == UInt64(MSR.systemTime) || msr.value == UInt64(MSR.systemTimeOld)
  }
}
