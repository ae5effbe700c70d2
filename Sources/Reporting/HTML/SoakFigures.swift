internal import ABIChecker
internal import Glibc

// What a soak adds to a report: the drift over time, and how large residuals and steps back were.
extension HTMLReport {
  static let soakNote = """
    One machine’s clock is compared with CLOCK_MONOTONIC_RAW all the while, and races between vCPUs are run beside it.
    """

  var soak: [HTML] {
    guard let soak = report.soak else { return [] }
    let hasStepBack = report.verdicts.contains {
      $0.rule == "MONO-CROSS-VCPU" && $0.outcome.isBroken
    }
    let statistics = soak.statistics
    return [
      soak.course.flatMap { Figure.course($0) },
      Figure.histogram(
        statistics.residual, id: "soak-residuals", title: "Distance from the prediction",
        caption: """
          The distances of all comparisons of a guest’s clock with CLOCK_MONOTONIC_RAW from the middle of what is \
          allowed. How wide that is depends on the comparison.
          """),
      Figure.histogram(
        statistics.spread, id: "soak-steps",
        title: "Steps back between vCPUs, in master-clock mode",
        caption: """
          The largest step back of each race. On one pair of the master clock none is allowed: \
          \(hasStepBack ? "MONO-CROSS-VCPU is broken." : "0 is what a sound host shows.")
          """, wrong: hasStepBack),
      Figure.histogram(
        statistics.spreadWithoutMasterClock, id: "soak-steps-without",
        title: "Steps back between vCPUs, without the master clock",
        caption: "The largest step back of each race. Without the master clock the ABI allows them."
      ),
    ].compactMap { $0?.html }
  }
}

extension Figure {
  /// The residual over the time of a soak, with the band that was allowed.
  fileprivate static func course(_ course: SoakCourse) -> Figure? {
    let points = course.points
    guard points.count >= 2, let last = points.last else { return nil }
    let x = Axis([0, Double(last.elapsed)], from: Frame.left, to: Frame.right, least: 1000)
    let values = points.flatMap { point in
      [Double(point.residual), Double(point.uncertainty), -Double(point.uncertainty)]
    }
    let y = Axis(values, from: 180, to: 26, least: 20)
    let unit = TimeUnit(for: Double(last.elapsed))
    var parts = x.ticks(6).filter { $0 >= 0 }.flatMap { tick -> [HTML] in
      [
        SVG.line(x.place(tick), 26, x.place(tick), 180, "grid"),
        SVG.text(x.place(tick), 197, unit.text(tick), "tick middle"),
      ]
    }
    parts.append(SVG.text(Frame.right, 215, "time of the soak, \(unit.name)", "label end"))
    let upper = points.map { (x.place(Double($0.elapsed)), y.place(Double($0.uncertainty))) }
    let lower = points.map { (x.place(Double($0.elapsed)), y.place(-Double($0.uncertainty))) }
    parts.append(SVG.path(upper + lower.reversed(), "allowed"))
    parts += Frame.values(y, title: "the clock’s advance less the prediction")
    parts += points.map { point in
      SVG.dot(
        x.place(Double(point.elapsed)), y.place(Double(point.residual)),
        point.excess > 0 ? "wrong" : "s0",
        "after \(TimeUnit.text(Double(point.elapsed))): \(TimeUnit.text(Double(point.residual))), "
          + "allowed ±\(TimeUnit.text(Double(point.uncertainty)))")
    }
    let outside = points.count { $0.excess > 0 }
    let rounds = points[0].rounds
    let each: HTML =
      rounds > 1 ? "A dot is the worst of up to \(rounds) rounds. " : "A dot is a round. "
    let found: HTML =
      outside == 0
      ? "The band is what the ABI allows: all lie in it."
      : "The band is what the ABI allows: <b>\(outside) of \(points.count) lie outside</b>."
    return Figure(
      id: "soak-course", title: "One machine’s clock against CLOCK_MONOTONIC_RAW",
      caption: "\(each)\(found)",
      drawing: SVG.drawing(
        Frame.width, 222, label: "The residual over the time of the soak", parts),
      legend: [("s0", "in the band"), ("allowed", "allowed")]
        + (outside > 0 ? [("wrong", "outside")] : []))
  }

  /// How often values of each size were seen. The scale is logarithmic: one race of a million has to show.
  fileprivate static func histogram(
    _ histogram: Histogram, id: String, title: String, caption: HTML, wrong: Bool = false
  ) -> Figure? {
    guard histogram.count > 0 else { return nil }
    let counts = histogram.counts
    let most = counts.map(height).max() ?? 1
    let (top, bottom) = (40.0, 180.0)
    let step = (Frame.right - Frame.left) / Double(max(6, counts.count))
    var parts: [HTML] = [SVG.line(Frame.left, bottom, Frame.right, bottom, "zero")]
    // Labels must not run into each other.
    let every = max(1, Int((46 / step).rounded(.up)))
    for (digits, count) in counts.enumerated() {
      let x = Frame.left + step * Double(digits)
      if digits % every == 0 {
        let least = digits == 0 ? 0.0 : Double(UInt64(1) << UInt64(digits - 1))
        let label = digits == 0 ? "0" : TimeUnit.text(least)
        parts.append(SVG.text(x + step / 2, bottom + 17, label, "tick middle"))
      }
      guard count > 0 else { continue }
      let tall = height(count) / most * (bottom - top)
      let said = SoakState.brief(count)
      parts.append(
        SVG.box(
          x + step * 0.1, bottom - tall, step * 0.8, tall, wrong && digits > 0 ? "bad" : "s0",
          title: "\(range(digits)): \(count)"))
      if step > 24 || count == counts.max() {
        parts.append(SVG.text(x + step / 2, bottom - tall - 5, said, "tick middle"))
      }
    }
    parts.append(
      SVG.text(Frame.right, bottom + 35, "from this value on, up to the next", "label end"))
    return Figure(
      id: id, title: title,
      caption: """
        \(SoakState.count(histogram.count)) in all; the largest is \
        <b>\(TimeUnit.text(Double(histogram.largest)))</b>. \(caption) The height is logarithmic.
        """,
      drawing: SVG.drawing(Frame.width, 222, label: title, parts))
  }

  /// One more than the number of decimal digits, about: a count of 1 has a height too.
  private static func height(_ count: UInt64) -> Double {
    count == 0 ? 0 : 1 + log10(Double(count))
  }

  private static func range(_ digits: Int) -> String {
    guard digits > 0 else { return "0 ns" }
    let least = UInt64(1) << UInt64(digits - 1)
    return digits == 1 ? "1 ns" : "\(least) to \(least - 1 + least) ns"
  }
}
