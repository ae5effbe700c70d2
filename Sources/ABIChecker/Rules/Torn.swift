internal import PVClock

// The version protocol under a reader that does not wait for the writer.

extension Rule {
  static let versionMono = Rule(
    "VERSION-MONO",
    "As long as the guest does not write it, the version only goes on, modulo 2^32.",
    sources: [.msr("MSR_KVM_SYSTEM_TIME_NEW, field version")],
    method: "vCPU 1 reads vCPU 0's record without pause while the host updates it 220 times.",
    scenarios: [.torn],
    coverage: [.observations(100, "steps of the version"), .count(1, "readers without pause")],
    inside: [.count(1, updatesOfRecord)]
  ) { timeline, findings in
    findings.needUpdates(in: timeline)
    var versions: UInt64 = 0
    for machine in timeline.machines {
      var last: [Hex: (event: Event, page: ClockPage)] = [:]
      for step in machine.steps {
        switch step.event.action {
        case .filled, .poked, .slotSet, .slotDeleted, .protected, .remapped: last = [:]
        case .page(_, let address, let page):
          if let last = last[address] {
            findings.expectGrowth(last.page, page, at: [last.event, step.event], orStays: true)
          }
          last[address] = (step.event, page)
        case .watched(_, _, _, let result):
          versions = max(versions, result.versions)
          findings.count("readers without pause")
          for (earlier, later) in result.neighbours {
            findings.expectGrowth(earlier.page, later.page, at: [step.event])
          }
        default: continue
        }
      }
    }
    if !timeline.isInside, (1..<20).contains(versions) {
      findings.sawTooLittle("the reader saw \(versions) versions, needs 20")
    }
  }

  static let versionNoTorn = Rule(
    "VERSION-NO-TORN",
    "Whoever reads a record under one even version gets the fields of one update, even while another CPU updates it.",
    sources: [
      .msr("MSR_KVM_SYSTEM_TIME_NEW, field version"),
      .guest("Linux's vDSO, vread_pvclock(), which reads vCPU 0's record on every vCPU"),
      .x86("kvm_setup_guest_pvclock() (\"legal for a guest to read another VCPU's kvmclock\")"),
    ],
    method:
      "vCPU 1 reads vCPU 0's record without pause while the host sets the clock hours on and lets vCPU 0 run, 220 "
      + "times. Readings of one version must not differ, neither from each other nor from the record that the host "
      + "read of that version between the updates.",
    scenarios: [.torn],
    coverage: [.count(1, "readers without pause")], inside: [.count(1, updatesOfRecord)]
  ) { timeline, findings in
    findings.needUpdates(in: timeline)
    var work = Work()
    for machine in timeline.machines {
      let looks = findings.looks(of: machine)
      work.updates = max(work.updates, looks.count)
      for event in machine.steps.map(\.event) {
        guard case .watched(_, let owner, let address, let result) = event.action else { continue }
        findings.count("readers without pause")
        work.add(result)
        findings.expect(
          result.torn == 0, at: [event],
          "\(result.reads) readings of vcpu\(owner)'s record, alike under one version",
          seen: "\(result.torn) torn: "
            + result.tornPair.map(describe).joined(separator: "; then "))
        for stretch in result.stretches {
          let version = stretch.page.version
          guard let look = looks[Look(vcpu: owner, address: address, version: version)] else {
            continue
          }
          work.matched += 1
          findings.expect(
            stretch.page == look.page, at: [look.event, event],
            "version \(version) of vcpu\(owner)'s record as the host read it: "
              + describe(look.page),
            seen: describe(stretch.page))
        }
      }
    }
    findings.detail = work.description
    if !timeline.isInside, work.reads > 0, let shortage = work.shortage {
      findings.sawTooLittle(shortage)
    }
  }

  /// A version of a record that the host read.
  fileprivate struct Look: Hashable {
    var vcpu: Int
    var address: Hex
    var version: UInt32
  }

  /// What the race was worth.
  private struct Work: CustomStringConvertible {
    var updates = 0
    var matched = 0
    var reads: UInt64 = 0
    var versions: UInt64 = 0
    var odd: UInt64 = 0

    mutating func add(_ result: WatchResult) {
      reads = max(reads, result.reads)
      versions = max(versions, result.versions)
      odd = max(odd, result.odd)
    }

    var description: String {
      "\(reads) readings beside \(updates) updates, \(versions) versions seen, \(matched) compared with the host's "
        + "reading, \(odd) readings begun again"
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
  /// The records that the host read, by their versions; two readings of one version are alike unless the guest or the
  /// user space wrote memory between.
  fileprivate mutating func looks(
    of machine: MachineRun
  ) -> [Rule.Look: (event: Event, page: ClockPage)] {
    var looks: [Rule.Look: (event: Event, page: ClockPage)] = [:]
    var isUndisturbed: Set<Rule.Look> = []
    for step in machine.steps {
      switch step.event.action {
      case .filled, .poked, .slotSet, .slotDeleted, .protected, .remapped: isUndisturbed = []
      case .page(let vcpu, let address, let page):
        let look = Rule.Look(vcpu: vcpu, address: address, version: page.version)
        if let (event, old) = looks[look], isUndisturbed.contains(look) {
          expect(
            page == old, at: [event, step.event],
            "version \(page.version) of vcpu\(vcpu)'s record as it was read before: "
              + describe(old),
            seen: describe(page))
        }
        looks[look] = (step.event, page)
        isUndisturbed.insert(look)
      default: continue
      }
    }
    return looks
  }

  fileprivate mutating func expectGrowth(
    _ earlier: ClockPage, _ later: ClockPage, at events: [Event], orStays: Bool = false
  ) {
    let step = VersionProtocol.advance(from: earlier.version, to: later.version)
    expect(
      (step > 0 || orStays) && step < 1 << 31, at: events,
      "a version above \(earlier.version), modulo 2^32", seen: "version \(later.version)")
  }
}
