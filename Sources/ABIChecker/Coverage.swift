/// What the quantifiers of a sentence ask for: "every vCPU", "any value", "both MSRs". A rule holds only where all of it
/// was seen.
public struct Coverage: Hashable, Sendable {
  enum Demand: Hashable, Sendable {
    /// So many observations.
    case observations(Int)
    /// So many of something that is counted apart.
    case count(Int)
    /// So many different ones.
    case different(Int)
    /// Each of these.
    case each([String])
    /// Each vCPU that the history shows to be made.
    case everyVCPU
  }

  let demand: Demand
  /// What is counted, in the plural: "vCPUs", "writes of the MSR".
  let what: String

  static func observations(_ least: Int, _ what: String) -> Self {
    Self(demand: .observations(least), what: what)
  }

  static func count(_ least: Int, _ what: String) -> Self {
    Self(demand: .count(least), what: what)
  }

  static func different(_ least: Int, _ what: String) -> Self {
    Self(demand: .different(least), what: what)
  }

  static func each(_ values: [String], _ what: String) -> Self {
    Self(demand: .each(values), what: what)
  }

  /// - Parameter what: under what name `Findings.cover` gets the vCPUs.
  static func everyVCPU(_ what: String = "vCPUs") -> Self { Self(demand: .everyVCPU, what: what) }

  /// What all observations together are, if this says it.
  var observations: String? { if case .observations = demand { what } else { nil } }

  /// "at least 6 writes of the MSR", "readings through: each of 0x12, 0x4b564d01".
  public var description: String {
    switch demand {
    case .observations(let least), .count(let least): "at least \(least) \(what)"
    case .different(let least): "at least \(least) different \(what)"
    case .each(let values): "\(what): each of \(values.joined(separator: ", "))"
    case .everyVCPU: "every vCPU of the machine (\(what))"
    }
  }
}

extension Findings {
  /// What is missing of what a sentence asks for, with what was seen instead; nil if nothing is.
  func shortage(of coverage: Coverage, in timeline: Timeline) -> String? {
    let what = coverage.what
    let seen = covered[what] ?? []
    switch coverage.demand {
    case .observations(let least): return observed < least ? "saw \(observed) \(what)" : nil
    case .count(let least):
      let count = counted[what] ?? 0
      return count < least ? "saw \(count) \(what)" : nil
    case .different(let least):
      return seen.count < least ? "saw \(seen.count) different \(what)\(Self.list(seen))" : nil
    case .each(let values):
      let missing = values.filter { !seen.contains($0) }
      return missing.isEmpty ? nil : "\(what): did not see \(missing.joined(separator: ", "))"
    case .everyVCPU:
      let missing = timeline.createdVCPUs.filter { !seen.contains("vcpu\($0)") }
      if timeline.createdVCPUs.isEmpty { return "saw no vCPU" }
      return missing.isEmpty
        ? nil
        : "\(what): did not see \(missing.prefix(8).map { "vcpu\($0)" }.joined(separator: ", "))"
    }
  }

  private static func list(_ seen: Set<String>) -> String {
    seen.isEmpty ? "" : " (\(seen.sorted().prefix(8).joined(separator: ", ")))"
  }
}

extension Timeline {
  /// The vCPUs that the history shows to be made, on any of its machines.
  var createdVCPUs: [Int] {
    var created: Set<Int> = []
    for event in history.events {
      if case .vcpuCreated(let vcpu) = event.action { created.insert(vcpu) }
    }
    return created.sorted()
  }
}
