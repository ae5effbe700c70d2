internal import PVClock

// The version protocol under a reader that does not wait for the writer.

extension Rule {
  static let versionMono = Rule(
    "VERSION-MONO",
    "As long as the guest does not write it, the version only goes on, modulo 2^32.",
    source: "Documentation/virt/kvm/x86/msr.rst, field version",
    method: "vCPU 1 reads vCPU 0's record without pause while the host updates it 220 times.",
    scenarios: [.torn],
    faults: ["a history in which the version of one update lies below the one before it"]
  ) { timeline in
    var findings = Findings()
    var versions: UInt64 = 0
    for (event, _, result) in timeline.watches {
      versions = max(versions, result.versions)
      for (earlier, later) in result.neighbours {
        findings.expectGrowth(earlier.page, later.page, at: [event])
      }
    }
    var last: [Hex: (event: Event, page: ClockPage)] = [:]
    for event in timeline.history.events {
      switch event.action {
      case .vmCreated, .filled, .poked: last = [:]
      default: break
      }
      guard case .page(_, let address, let page) = event.action else { continue }
      if let last = last[address] {
        findings.expectGrowth(last.page, page, at: [last.event, event], orStays: true)
      }
      last[address] = (event, page)
    }
    guard findings.violations.isEmpty, !timeline.watches.isEmpty, versions < 20 else {
      return findings.outcome(atLeast: 100, "steps of the version", in: timeline)
    }
    return timeline.tooLittle("the reader saw \(versions) versions, needs 20")
  }

  static let versionNoTorn = Rule(
    "VERSION-NO-TORN",
    "Whoever reads a record between two looks at one and the same even version has what one update wrote, also while "
      + "another CPU updates it.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, field version; arch/x86/kvm/x86.c, kvm_setup_guest_pvclock() (\"legal for a guest to "
      + "read another VCPU's kvmclock\")",
    method:
      "vCPU 1 reads vCPU 0's record without pause while the host sets the clock hours on and lets vCPU 0 run, 220 "
      + "times. Readings of one version must not differ, neither from each other nor from what the host saw of that "
      + "version between the updates.",
    scenarios: [.torn],
    faults: [
      "a history with two readings that differ under one version",
      "a history in which the reader's record mixes the fields of two updates",
    ]
  ) { timeline in
    var findings = Findings()
    var looks: [Look: (event: Event, page: ClockPage)] = [:]
    for event in timeline.history.events {
      guard case .page(let vcpu, let address, let page) = event.action else { continue }
      looks[Look(vcpu: vcpu, address: address, version: page.version)] = (event, page)
    }
    var work = Work(updates: looks.count)
    for (event, watched, result) in timeline.watches {
      work.add(result)
      findings.expect(
        result.torn == 0, at: [event],
        "\(result.reads) readings of vcpu\(watched.owner)'s record, alike under one version",
        seen: "\(result.torn) torn: " + result.tornPair.map(describe).joined(separator: "; then "))
      for stretch in result.stretches {
        let version = stretch.page.version
        guard
          let look = looks[
            Look(vcpu: watched.owner, address: watched.address, version: version)]
        else { continue }
        work.matched += 1
        findings.expect(
          stretch.page == look.page, at: [look.event, event],
          "version \(version) of vcpu\(watched.owner)'s record as the host saw it: "
            + describe(look.page),
          seen: describe(stretch.page))
      }
    }
    guard findings.violations.isEmpty else { return findings.outcome("", in: timeline) }
    if timeline.watches.isEmpty { return findings.outcome("readings", in: timeline) }
    if let shortage = work.shortage { return timeline.tooLittle(shortage) }
    return .holds(evidence: work.description)
  }

  /// What the host looked at.
  private struct Look: Hashable {
    var vcpu: Int
    var address: Hex
    var version: UInt32
  }

  /// What the race was worth.
  private struct Work: CustomStringConvertible {
    var updates: Int
    var matched = 0
    var reads: UInt64 = 0
    var versions: UInt64 = 0
    var odd: UInt64 = 0

    init(updates: Int) { self.updates = updates }

    mutating func add(_ result: WatchResult) {
      reads = max(reads, result.reads)
      versions = max(versions, result.versions)
      odd = max(odd, result.odd)
    }

    var description: String {
      "\(reads) readings beside \(updates) updates, \(versions) versions seen, \(matched) compared with the host's "
        + "look, an odd one met \(odd) times"
    }

    var shortage: String? {
      guard updates >= 200, reads >= 10_000, versions >= 20, matched >= 20 else {
        return "\(self); needs 200 updates, 10000 readings, 20 versions, 20 compared"
      }
      return nil
    }
  }
}

extension Findings {
  fileprivate mutating func expectGrowth(
    _ earlier: ClockPage, _ later: ClockPage, at events: [Event], orStays: Bool = false
  ) {
    let step = VersionProtocol.advance(from: earlier.version, to: later.version)
    expect(
      (step > 0 || orStays) && step < 1 << 31, at: events,
      "a version above \(earlier.version), modulo 2^32", seen: "version \(later.version)")
  }
}
