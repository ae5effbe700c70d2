public import ABIChecker

/// The rules as a document for people.
public enum Catalogue {
  /// - Parameter faults: by the rule's id, the meanings of the model's faults that break it.
  public static func markdown(
    _ topics: [Topic] = Rule.topics, faults: [String: [String]] = [:]
  ) -> String {
    let rules = topics.flatMap(\.rules)
    let contents = topics.map { topic in
      "- [\(topic.title)](#\(anchor(topic.title))): \(topic.rules.count)"
    }
    return """
      # The ABI of kvmclock, sentence by sentence

      <!-- Written by `kvmclock list --format markdown`; `make docs` does it. Do not edit. -->

      This document states what the paravirtual clock of KVM on x86 promises to guests and to VMMs. It has \(rules.count { !$0.isObservation }) \
      rules, each tested by `kvmclock run`, and \(rules.count(where: \.isObservation)) observations, which report what the ABI leaves open.

      - *Source*: who says so. A *document* or a header states the ABI. A *guest* relies on it. A *commit* of Linux promises it or mends \
      its breach. An *implementation* is only how Linux works today: a host that breaks such a rule *differs from Linux*; it is not unsound.
      - *Method*: what is done and read.
      - *Coverage*: what must have been seen before the rule holds. A rule that saw less is *not tested*.
      - *Needs*: what the host must offer. `kvmclock doctor` probes for it.
      - *Owed since*: older kernels do not owe the rule. Without this line every kernel does that was tried, 5.10 and later.
      - *Known*: shipped kernels that break the rule, and the largest error that this excuses.
      - *Fails on*: faults of the user-space model that break it. [mutants.md](mutants.md) has the mutated kernels that do.

      \(contents.joined(separator: "\n"))

      \(glossary)
      \(topics.map { section($0, faults) }.joined(separator: "\n"))
      \(neverSeenToFail(rules))
      """
  }

  private struct Entry: Encodable {
    var rule: String
    var topic: String?
    var statement: String
    var isObservation: Bool
    var sources: [[String: String]]
    var method: String
    var coverage: [String]
    var needs: [String]
    var scenarios: [String]
    var judgesAllHistories: Bool
    var failsOn: [String]
  }

  /// The rules as one JSON list, for programs.
  public static func json(_ rules: [Rule], faults: [String: [String]] = [:]) -> String {
    JSONText.pretty(
      rules.map { rule in
        Entry(
          rule: rule.id, topic: Rule.topic(of: rule.id), statement: rule.statement,
          isObservation: rule.isObservation,
          sources: rule.sources.map { ["kind": $0.kind.rawValue, "text": $0.text] },
          method: rule.method, coverage: rule.coverage.map(\.description),
          needs: rule.needs.map(\.rawValue).sorted(), scenarios: rule.scenarios.map(\.rawValue),
          judgesAllHistories: rule.everywhere, failsOn: faults[rule.id] ?? [])
      })
  }

  private static let terms: [(String, String)] = [
    (
      "record",
      "the 32 bytes of `struct pvclock_vcpu_time_info` that KVM writes into guest memory for one vCPU"
    ),
    (
      "registration",
      "a write of a system-time MSR with bit 0 set, which gives the record's address"
    ),
    ("reading", "a value of the clock that a guest computes from its record and its TSC"),
    ("update", "KVM's writing of a record"),
    ("entry", "a vCPU goes into the guest, by `KVM_RUN`; KVM makes pending updates before"),
    (
      "system-time MSR",
      "MSR_KVM_SYSTEM_TIME_NEW (0x4b564d01) or the old MSR, MSR_KVM_SYSTEM_TIME (0x12)"
    ),
    ("wall clock MSR", "MSR_KVM_WALL_CLOCK_NEW (0x4b564d00) or MSR_KVM_WALL_CLOCK (0x11)"),
    ("wall clock record", "the 12 bytes of `struct pvclock_wall_clock`"),
    (
      "version protocol",
      "a reader accepts what it read if the version was even and the same before and after"
    ),
    (
      "master clock",
      "KVM's mode in which all records of a VM hold one pair; PVCLOCK_TSC_STABLE_BIT (bit 0 of the flags) shows it"
    ),
    ("pair", "a TSC value and the clock's value at that TSC: tsc_timestamp and system_time"),
    ("snapshot", "KVM's taking of a new pair for the master clock"),
    ("the clock is set", "`KVM_SET_CLOCK` succeeded"),
    ("bracket", "readings of the TSC and of CLOCK_MONOTONIC_RAW before and after an event"),
    (
      "lead",
      "by how much a record may run ahead without the master clock: at most the entry that made it"
    ),
    ("slot", "a memory slot of `KVM_SET_USER_MEMORY_REGION`"),
  ]

  private static var glossary: String {
    "## Terms\n\n" + terms.map { "- **\($0.0)**: \($0.1).\n" }.joined()
  }

  private static func neverSeenToFail(_ rules: [Rule]) -> String {
    let unproved = rules.filter { Rule.neverSeenToFail.contains($0.id) }
    guard !unproved.isEmpty else { return "" }
    func names(_ isObservation: Bool) -> String {
      let ids = unproved.filter { $0.isObservation == isObservation }.map(\.id)
      return ids.isEmpty ? "none" : ids.joined(separator: ", ")
    }
    return """
      ## Never seen to fail

      A fault in the user-space model (`kvmclock faults`), one of the toy VMM (`kvmclock vmm toy`), a mutated kernel ([mutants.md](mutants.md)) or a shipped kernel (*Known*) breaks \
      every rule but these. These were tested only on histories made by hand.

      - Rules: \(names(false)).
      - Observations whose value no such fault was seen to change: \(names(true)).

      """
  }

  private static func section(_ topic: Topic, _ faults: [String: [String]]) -> String {
    "## \(topic.title)\n\n"
      + topic.rules.map { entry($0, faults[$0.id] ?? []) }.joined(separator: "\n")
  }

  private static func entry(_ rule: Rule, _ faults: [String]) -> String {
    let list = items(rule, faults: faults).map { "- *\($0.0)*: \(linked($0.1))\n" }.joined()
    let kind = rule.isObservation ? " (observation)" : ""
    return "### \(rule.id)\(kind)\n\n\(escape(rule.statement))\n\n\(list)"
  }

  /// All that there is to say of a rule besides its sentence, each with its name.
  public static func items(_ rule: Rule, faults: [String] = []) -> [(String, String)] {
    var items = rule.sources.map { ("Source (\($0.kind.rawValue))", $0.text) }
    items.append(("Method", rule.method))
    if !rule.coverage.isEmpty {
      items.append(("Coverage", rule.coverage.map(\.description).joined(separator: "; ")))
    }
    if !rule.needs.isEmpty {
      items.append(("Needs", rule.needs.map(\.rawValue).sorted().joined(separator: ", ")))
    }
    items.append(("Scenarios", scenarios(rule)))
    if let inside = rule.inside {
      let coverage = inside.map(\.description).joined(separator: "; ")
      items.append(("Inside a guest", "`kvmclock inside`, on vCPU 0's record; \(coverage)"))
    }
    if let owed = Owed.table.first(where: { $0.rule == rule.id }) {
      items.append(("Owed since", "Linux \(owed.since); before: \(owed.before)"))
    }
    items += KnownDeviation.table.filter { $0.rule == rule.id }.map {
      let bound = $0.bound.map { "; excuses \($0)" } ?? ""
      return ("Known", "\($0.range): \($0.cause) (\($0.source))\(bound)")
    }
    if !faults.isEmpty { items.append(("Fails on", faults.joined(separator: "; "))) }
    return items
  }

  private static func scenarios(_ rule: Rule) -> String {
    rule.scenarios.map(\.rawValue).joined(separator: ", ")
      + (rule.everywhere ? ", and the histories of all other scenarios" : "")
      + (rule.needsHostChange ? "; only with --change-host" : "")
  }

  private static func linked(_ text: String) -> String {
    LinkedPiece.pieces(of: text).map { piece in
      piece.address.map { "[\(escape(piece.text))](\($0))" } ?? escape(piece.text)
    }.joined()
  }

  /// What Markdown would take for its own.
  private static func escape(_ text: String) -> String {
    var escaped = ""
    for character in text {
      if "*<>|[]`".contains(character) { escaped.append("\\") }
      escaped.append(character)
    }
    return escaped
  }

  /// The name that GitHub gives a heading: lower case, blanks as hyphens, and of the rest letters, digits, - and _.
  static func anchor(_ title: String) -> String {
    String(
      title.lowercased().compactMap { character in
        if character == " " { return "-" }
        return character.isLetter || character.isNumber || "-_".contains(character)
          ? character : nil
      })
  }
}
