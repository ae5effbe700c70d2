internal import PVClock

// The wall clock's record under a reader that does not wait for the writer.

extension Rule {
  static let wallNoTorn = Rule(
    "WALL-NO-TORN",
    "A guest that reads a wall clock record between two reads of one even version has sec and nsec of one write, even while "
      + "another CPU writes the record.",
    sources: [
      .msr(
        "MSR_KVM_WALL_CLOCK_NEW, field version (\"both equal and even. An odd version "
          + "indicates an in-progress update\")")
    ],
    method:
      "vCPU 1 reads a wall clock record without pause while KVM_SET_CLOCK moves the epoch by hours and vCPU 0 or the host "
      + "writes the MSR, 80 times and more each for a record within a page and two across a page boundary, which KVM writes in two "
      + "parts. Readings of one version must not differ, neither from each other nor from the record as the host read it "
      + "after that write.",
    scenarios: [.wallTorn],
    coverage: [
      .observations(20, "records that were read beside the writes"), .count(200, writes),
      .each(["within a page", "across a page boundary"], places),
    ],
    needs: [.twoCPUs]
  ) { timeline, findings in
    findings.isRace = true
    let all = timeline.wallWrites
    for machine in timeline.machines {
      for step in machine.steps {
        guard case .watchedWallClock(let address, let result) = step.event.action else { continue }
        findings.expect(
          result.torn == 0, at: [step.event],
          "\(result.reads) readings of the record at \(address), alike under one version",
          seen: "\(result.torn) torn: "
            + result.tornPair.map(describe).joined(separator: "; then "))

        // Each version that was read is one that the host read after a write.
        let beside = all.filter {
          $0.machine == machine.number && $0.address == address.value && $0.record != nil
            && step.event.isAround($0.event)
        }
        let written = Dictionary(
          beside.map { ($0.record!.version, $0) }, uniquingKeysWith: { first, _ in first })
        var compared = 0
        for record in result.records {
          guard let write = written[record.version], let expected = write.record,
            let look = write.look
          else { continue }
          compared += 1
          findings.expect(
            record == expected, at: [write.event, look.event, step.event],
            "version \(record.version) of the record at \(address) as the host read it: \(describe(expected))",
            seen: describe(record))
        }

        findings.count(writes, by: UInt64(beside.count))
        let figures =
          "\(result.reads) readings beside \(beside.count) writes at \(address), \(compared) versions compared, "
          + "\(result.odd) readings begun again"
        findings.detail += (findings.detail.isEmpty ? "" : "; ") + figures
        if result.reads < 5000 || compared < 7 {
          findings.sawTooLittle("\(figures); needs 5000 readings and 7 versions compared")
        } else {
          let isCrossing = address.value % 4096 > 4096 - UInt64(WallClock.size)
          findings.cover(isCrossing ? "across a page boundary" : "within a page", of: places)
        }
      }
    }
  }

  private static let writes = "writes beside the reader"
  private static let places = "places of the record"
}

extension Event {
  fileprivate func isAround(_ other: Event) -> Bool {
    began.raw <= other.began.raw && other.ended.raw <= ended.raw
  }
}
