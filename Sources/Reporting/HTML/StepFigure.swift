internal import ABIChecker

/// The moment at which a guest's clock went wrong: the clock before and after, where it may have been, and who did what.
struct StepFigure {
  private struct Point {
    var event: Event
    /// Nanoseconds since the first reading that is shown.
    var raw: Double
    var value: Double
  }

  private static let beside = 4
  private static let bottom = 190.0
  private static let lane = 20.0

  private let step: ClockStep
  private let points: [Point]
  private let origin: Double
  private let from: Point
  private let to: Point
  private let events: [Event]

  /// Nil where the two readings of the step are not on the timeline.
  init?(_ step: ClockStep, in timeline: Timeline) {
    let values = timeline.clockSteps
    guard let first = values.firstIndex(where: { $0.event.number == step.from.number }),
      let last = values.firstIndex(where: { $0.event.number == step.to.number }), first < last
    else { return nil }
    // What is before a setting of the clock, or on another machine, is another line. What is far away would hide the step.
    let span = Self.moment(step.to) - Self.moment(step.from)
    var begin = first
    while begin > 0, first - begin < Self.beside, values[begin].step?.isWrong == false,
      Self.moment(step.from) - Self.moment(values[begin - 1].event) < 3 * span
    { begin -= 1 }
    var end = last
    while end + 1 < values.count, end - last < Self.beside, values[end + 1].step?.isWrong == false,
      Self.moment(values[end + 1].event) - Self.moment(step.to) < 3 * span
    { end += 1 }
    let origin = Self.moment(values[begin].event)
    let base = values[begin].value
    points = values[begin...end].map { value in
      Point(
        event: value.event, raw: Self.moment(value.event) - origin,
        value: Double(Int64(bitPattern: value.value &- base)))
    }
    self.step = step
    self.origin = origin
    from = points[first - begin]
    to = points[last - begin]
    let shown = values[begin].event.number...values[end].event.number
    events = timeline.history.events.filter { shown.contains($0.number) }
  }

  /// The middle of an event, by CLOCK_MONOTONIC_RAW.
  private static func moment(_ event: Event) -> Double {
    (Double(event.began.raw) + Double(event.ended.raw)) / 2
  }

  private var lower: Double { from.value + Double(step.lower) }
  private var upper: Double { from.value + Double(step.upper) }

  /// - Parameter name: what makes its id unlike those of other figures.
  func figure(id: String, title: String) -> Figure {
    let x = Axis(points.map(\.raw), from: Frame.left, to: Frame.right - 30, least: 1000)
    let y = Axis(
      points.map(\.value) + [lower, upper], from: Self.bottom, to: 40, least: 100)
    let lanes = self.lanes(x)
    let foot = Self.bottom + Double(lanes.count) * Self.lane + 8
    var parts = Frame.time(x, bottom: foot, tops: [(40, foot)])
    parts += Frame.values(y, title: "the guest’s clock")
    parts += allowed(x, y)
    if let cause = step.cause, let deed = cause.deed {
      let at = x.place(Self.moment(cause) - origin)
      parts.append(SVG.line(at, 40, at, foot, "cause"))
      let side = at > 300 ? "end" : "start"
      parts.append(
        SVG.text(
          at, 14, deed.hasPrefix("when ") ? String(deed.dropFirst(5)) : deed, "deed \(side)"))
    }
    parts += line(x, y)
    parts += expected(x, y)
    parts += arrow(x, y)
    for (index, lane) in lanes.enumerated() {
      let height = Self.bottom + Double(index) * Self.lane + 20
      parts.append(SVG.line(Frame.left, height, Frame.right, height, "grid"))
      parts.append(SVG.text(Frame.left - 6, height + 4, lane.name, "tick end"))
      parts += lane.marks.map { $0(height) }
    }
    return Figure(
      id: id, title: title, caption: caption,
      drawing: SVG.drawing(Frame.width, foot + 42, label: "\(title): \(step.sentence)", parts),
      legend: [
        ("s0", "the guest’s clock as read"), ("allowed", "where it may be, by CLOCK_MONOTONIC_RAW"),
        ("write", "a write of the system-time MSR"),
      ])
  }

  private var caption: HTML {
    let advance = Self.signed(Double(step.advance))
    return """
      Between events \(step.from.number) and \(step.to.number) the clock had to advance by \
      \(TimeUnit.text(Double(step.lower))) to \(TimeUnit.text(Double(step.upper))). \
      It moved by <b>\(advance)</b>. Each dot is a reading.
      """
  }

  private static func signed(_ value: Double) -> String {
    (value < 0 ? "" : "+") + TimeUnit.text(value)
  }

  /// From the last good reading on: as much as CLOCK_MONOTONIC_RAW advanced, within the bounds of the rule.
  private func allowed(_ x: Axis, _ y: Axis) -> [HTML] {
    let start = (x.place(from.raw), y.place(from.value))
    return [
      SVG.path(
        [start, (x.place(to.raw), y.place(upper)), (x.place(to.raw), y.place(lower)), start],
        "allowed"),
      SVG.path([start, (x.place(to.raw), y.place((lower + upper) / 2))], "predicted"),
    ]
  }

  /// Where the wrong reading had to be. The band may be too narrow to be seen behind the line.
  private func expected(_ x: Axis, _ y: Axis) -> [HTML] {
    let (at, top) = (x.place(to.raw), y.place(upper))
    let height = max(6, y.place(lower) - top)
    let middle = (top + y.place(lower)) / 2
    return [
      SVG.box(at - 5, middle - height / 2, 10, height, "expected"),
      SVG.text(at - 9, middle - height / 2 - 3, "expected", "expected end"),
    ]
  }

  /// The clock runs at the rate of CLOCK_MONOTONIC_RAW on either side of what moved it.
  private func line(_ x: Axis, _ y: Axis) -> [HTML] {
    let breaking = step.cause.map { Self.moment($0) - origin } ?? (from.raw + to.raw) / 2
    let before = points.filter { $0.raw <= from.raw }
    let after = points.filter { $0.raw >= to.raw }
    var parts: [HTML] = []
    if let last = before.last, let next = after.first {
      let edge = min(max(breaking, last.raw), next.raw)
      let old =
        before.map { ($0.raw, $0.value) } + [(edge, last.value + edge - last.raw)]
      let new = [(edge, next.value - (next.raw - edge))] + after.map { ($0.raw, $0.value) }
      parts += [old, new].map { line in
        SVG.path(line.map { (x.place($0.0), y.place($0.1)) }, "s0 clock")
      }
    }
    return parts
      + points.map { point in
        SVG.dot(
          x.place(point.raw), y.place(point.value),
          point.event.number == to.event.number ? "wrong" : "s0",
          "event \(point.event.number), \(point.event.actor): \(TimeUnit.text(point.value))", r: 3.2
        )
      }
  }

  /// From where the clock had to be, or where it was if it went back, to where it is.
  private func arrow(_ x: Axis, _ y: Axis) -> [HTML] {
    let start = step.advance < 0 ? from.value : step.advance < step.lower ? lower : upper
    let distance = to.value - start
    let at = x.place(to.raw)
    let (top, end) = (y.place(start), y.place(to.value))
    let tip = end + (end > top ? -5 : 5)
    return [
      SVG.line(at, top, at, end, "arrow"),
      SVG.path([(at - 4, tip), (at, end), (at + 4, tip)], "arrow"),
      SVG.text(at - 7, (top + end) / 2 + 4, Self.signed(distance), "amount end"),
    ]
  }

  private typealias Mark = (Double) -> HTML

  /// What each vCPU and the host did meanwhile.
  private func lanes(_ x: Axis) -> [(name: String, marks: [Mark])] {
    var lanes: [(name: String, marks: [Mark])] = []
    for event in events {
      let isWrite = event.writesSystemTime
      let isDeed = event.deed != nil
      let isReading = points.contains { $0.event.number == event.number }
      guard isWrite || isDeed || isReading else { continue }
      let at = x.place(Self.moment(event) - origin)
      let title = "event \(event.number), \(event.actor): \(event.action.plain)"
      let mark: Mark =
        isReading
        ? { SVG.dot(at, $0, "s0", title, r: 2.4) }
        : { SVG.box(at - 1.5, $0 - 6, 3, 12, isWrite ? "write" : "s1", title: title) }
      let name = "\(event.actor)"
      if let index = lanes.firstIndex(where: { $0.name == name }) {
        lanes[index].marks.append(mark)
      } else if lanes.count < 6 {
        lanes.append((name, [mark]))
      }
    }
    return lanes.sorted { $0.name < $1.name }
  }
}
