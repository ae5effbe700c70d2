internal import PVClock

// The version protocol.

extension Rule {
  static let versions: [Rule] = [.versionEven, .versionStep]

  static let versionEven = Rule(
    "VERSION-EVEN",
    "The version is even whenever no update is in progress: as long as the vCPU that owns the record is in the guest, and "
      + "after it has left.",
    sources: [.msr("MSR_KVM_SYSTEM_TIME_NEW, field version")],
    method: "Check every record that the host or a guest read, unless two vCPUs share it.",
    scenarios: [.registration, .version], everywhere: true,
    coverage: [.observations(2, "records")], inside: [.observations(2, "records")]
  ) { timeline, findings in
    for record in timeline.writtenPages where !record.isShared {
      findings.expect(
        record.page.version % 2 == 0, at: [record.event],
        "an even version in vcpu\(record.vcpu)'s record", seen: "version \(record.page.version)")
    }
  }

  static let versionStep = Rule(
    "VERSION-STEP",
    "Updates take the version that is in guest memory to an even one: at least 2 on from an even version, at least 3 on "
      + "from an odd one, modulo 2^32, and less than 2^31.",
    sources: [.msr("MSR_KVM_SYSTEM_TIME_NEW, field version"), .x86("kvm_setup_guest_pvclock()")],
    method:
      "The guest writes a version into its record (0, odd, 0xfffffffe, 0xffffffff) and writes the MSR; the host reads the "
      + "record. One entry may make several updates.",
    scenarios: [.version],
    coverage: [
      .observations(6, "updates of a version that the guest had set"),
      .each(["even", "odd", "one that wraps"], "versions before an update"),
    ]
  ) { timeline, findings in
    for machine in timeline.machines {
      var planted: [Int: (poke: Event, version: UInt32, write: Event?)] = [:]
      for step in machine.steps {
        if let vcpu = step.vcpu, let write = step.systemTimeWrite {
          if write.record == step.before.record { planted[vcpu]?.write = step.event }
          if write.record != step.before.record { planted[vcpu] = nil }
        }
        switch step.event.action {
        case .filled: planted = [:]
        case .replugged(let vcpu, _): planted[vcpu] = nil
        case .poked(let address, let value):
          for (vcpu, write) in step.machine.records where write.record == address.value {
            planted[vcpu] = (step.event, UInt32(truncatingIfNeeded: value.value), nil)
          }
        case .page(let vcpu, let address, let page):
          guard case (let poke, let from, let write?)? = planted[vcpu],
            step.machine.records[vcpu]?.record == address.value
          else { continue }
          planted[vcpu] = nil
          let advance = VersionProtocol.advance(from: from, to: page.version)
          let least: UInt32 = from % 2 == 0 ? 2 : 3
          findings.cover(from % 2 == 0 ? "even" : "odd", of: "versions before an update")
          if from > UInt32.max - least {
            findings.cover("one that wraps", of: "versions before an update")
          }
          findings.expect(
            advance >= least && advance < 1 << 31 && page.version % 2 == 0,
            at: [poke, write, step.event],
            "an even version at least \(least) after \(from), modulo 2^32",
            seen: "version \(page.version)")
        default: continue
        }
      }
    }
  }
}
