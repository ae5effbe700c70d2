/// Collects what a rule looked at, and makes the outcome of it.
struct Findings {
  private(set) var observed = 0
  /// What was seen of what the rule's coverage asks for, by the name that it has there.
  private(set) var covered: [String: Set<String>] = [:]
  private(set) var counted: [String: UInt64] = [:]
  /// What the rule adds to the evidence: figures for the reader.
  var detail = ""
  /// Whether the scenario is a race, in which an emulator's TSC leaps each time: another run would not help.
  var isRace = false
  /// What a host does where the ABI leaves it open.
  private var value: String?
  private var tooLittle: String?
  private(set) var violations: [Violation] = []
  private var tooWide: [String] = []
  private var absent: [String] = []
  /// The narrowest and the widest interval that an observation was held against, in nanoseconds.
  private var widths: Interval?
  /// The observation that came nearest to an end of its interval, if that is wide enough to have a middle.
  private var closest: Measure?

  /// More proofs than this say nothing new; the number of all is kept.
  private static let shown = 20
  private var unshown = 0

  /// One observation: it is what the ABI allows, or it is a violation.
  ///
  /// - Parameter fits: whether what was seen is of the kind and size that the known deviation of this rule makes.
  mutating func expect(
    _ holds: Bool, at events: [Event], _ expected: @autoclosure () -> String,
    seen: @autoclosure () -> String, measure: Measure? = nil, fits: @autoclosure () -> Bool = false
  ) {
    observed += 1
    if holds { return }
    if !fits() { allFit = false }
    guard violations.count < Self.shown else {
      unshown += 1
      return
    }
    violations.append(
      Violation(
        expected: expected(), seen: seen(), events: events.map(\.number), measure: measure))
  }

  /// One observation that has to lie in `allowed`; if that is wider than `limit` it proves little and does not
  /// count, but outside it is outside.
  ///
  /// - Returns: whether it counted.
  @discardableResult
  mutating func expect(
    _ value: Int128, in allowed: Interval, limit: Int128 = .max, at events: [Event],
    _ what: String, why: @autoclosure () -> String, fits: @autoclosure () -> Bool = false
  ) -> Bool {
    if allowed.contains(value), allowed.width > limit {
      tooWide.append(
        "\(what): the allowed interval is \(nanoseconds(allowed.width)) wide, "
          + "more than \(nanoseconds(limit)) says nothing")
      return false
    }
    widths = Interval(
      min(widths?.lower ?? allowed.width, allowed.width),
      max(widths?.upper ?? allowed.width, allowed.width))
    let measure = Measure(value, in: allowed, what: what)
    if allowed.width > 10, measure.margin < closest?.margin ?? .infinity { closest = measure }
    expect(
      allowed.contains(value), at: events,
      "\(what) in [\(nanoseconds(allowed.lower)), \(nanoseconds(allowed.upper))]: \(why())",
      seen: "\(nanoseconds(value)), \(nanoseconds(abs(allowed.distance(to: value)))) too "
        + (value < allowed.lower ? "low" : "high"), measure: measure, fits: fits())
    return true
  }

  /// Notes that something was seen which the rule's coverage asks for: `vcpu` of "vCPUs".
  mutating func cover(_ seen: String, of what: String) { covered[what, default: []].insert(seen) }

  mutating func cover(vcpu: Int?, of what: String = "vCPUs") {
    if let vcpu { cover("vcpu\(vcpu)", of: what) }
  }

  /// Adds to a count that the rule's coverage asks for.
  mutating func count(_ what: String, by number: UInt64 = 1) {
    counted[what] = counted[what, default: 0].addingReportingOverflow(number).partialValue
  }

  /// What this host does where the ABI leaves it open; the first value counts.
  mutating func report(_ value: String) { self.value = self.value ?? value }

  /// A race that was over before it had begun: a machine with more time may tell.
  mutating func sawTooLittle(_ figures: String) { tooLittle = tooLittle ?? figures }

  /// Whether every violation is of the kind and size that the known deviation makes.
  private var allFit = true

  /// What follows from all that was looked at.
  func outcome(covering coverage: [Coverage], in timeline: Timeline) -> Outcome {
    if !violations.isEmpty { return broken(timeline) }
    if let value { return .observed(value: value) }
    if let tooLittle {
      if let lacking = timeline.lacking { return .notTested(reason: "\(lacking); \(tooLittle)") }
      return .inconclusive(reason: tooLittle)
    }
    var shortage: String?
    for demand in coverage where shortage == nil {
      shortage = self.shortage(of: demand, in: timeline).map {
        "\($0); needs \(demand.description)"
      }
    }
    guard observed == 0 || shortage != nil else {
      let what = coverage.lazy.compactMap(\.observations).first ?? "observations"
      let detail = detail.isEmpty ? "" : ", \(detail)"
      return .holds(evidence: "\(observed) \(what)\(detail)\(power)", closest: closest)
    }
    if let wide = tooWide.first {
      guard let unsteady = timeline.unsteady else { return .inconclusive(reason: wide) }
      let reason = "\(unsteady); \(wide)"
      return isRace ? .notTested(reason: reason) : .inconclusive(reason: reason)
    }
    return .notTested(
      reason: absent.first ?? timeline.lacking ?? shortage ?? "saw nothing of what it judges")
  }

  private func broken(_ timeline: Timeline) -> Outcome {
    var proofs = violations
    for index in proofs.indices { proofs[index].history = timeline.history.header.name }
    if unshown > 0 { proofs[proofs.count - 1].seen += " (and \(unshown) more like these)" }
    if allFit { for index in proofs.indices { proofs[index].fitsDeviation = true } }
    return .broken(violations: proofs)
  }

  /// What the intervals could not tell apart: the smaller, the sharper.
  private var power: String {
    guard let widths, widths.upper > 2 else { return "" }
    return ", intervals \(short(widths.lower)) to \(short(widths.upper)) wide"
  }

  /// An observation that says nothing this time; another run may.
  mutating func cannotTell(_ reason: String) { tooWide.append(reason) }

  /// Something without which the rule can't be judged here.
  mutating func lacks(_ reason: String) { absent.append(reason) }
}

/// "20134567 ns (20.1 ms)": exact for the reader who computes, short for the one who looks.
func nanoseconds(_ value: Int128) -> String {
  value.magnitude < 1000 ? "\(value) ns" : "\(value) ns (\(short(value)))"
}

/// "20.1 ms".
func short(_ value: Int128) -> String {
  let magnitude = value.magnitude
  let units: [(size: UInt128, name: String)] = [
    (86_400_000_000_000, "days"), (3_600_000_000_000, "h"), (1_000_000_000, "s"),
    (1_000_000, "ms"), (1_000, "us"),
  ]
  guard let unit = units.first(where: { magnitude >= $0.size }) else { return "\(value) ns" }
  let tenths = (magnitude * 10 + unit.size / 2) / unit.size
  return "\(value < 0 ? "-" : "")\(tenths / 10).\(tenths % 10) \(unit.name)"
}
