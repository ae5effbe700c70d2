internal import PVClock

// CLOCK_REALTIME is stepped under a VM.

extension Rule {
  private static let steps = Coverage.each(["forward", "back"], "steps of CLOCK_REALTIME")

  static let realtimeStepKeepsTime = Rule(
    "REALTIME-STEP-KEEPS-TIME",
    "A step of the host's CLOCK_REALTIME does not move kvmclock.",
    sources: [.msr("MSR_KVM_SYSTEM_TIME_NEW, field system_time")],
    method:
      "Step CLOCK_REALTIME by an hour forward and back, and by a day back and forward; read on both vCPUs before and after each, "
      + "also from a new pair for the master clock.",
    scenarios: [.realtimeStep],
    coverage: [steps, .everyVCPU(), .observations(8, "readings on both sides of a step")],
    needs: [.hostChange]
  ) { timeline, findings in
    for machine in timeline.machines {
      var last: [Int: Observation] = [:]
      var before: [Int: Observation] = [:]
      var step: (event: Event, isForward: Bool)?
      for reading in machine.steps {
        if case .hostChanged("realtime", let seconds, nil) = reading.event.action {
          (step, before) = ((reading.event, !seconds.hasPrefix("-")), last)
        }
        for value in reading.observations {
          guard let vcpu = value.vcpu else { continue }
          last[vcpu] = value
          guard let step, let from = before[vcpu], from.epoch == value.epoch,
            findings.expectAdvance(
              from: from, to: value, over: [step.event], in: timeline,
              why: "CLOCK_MONOTONIC_RAW counted so much; only CLOCK_REALTIME was stepped")
          else { continue }
          findings.cover(step.isForward ? "forward" : "back", of: "steps of CLOCK_REALTIME")
          findings.cover(vcpu: vcpu)
        }
      }
    }
  }

  static let realtimeStepFollowed = Rule(
    "REALTIME-STEP-FOLLOWED",
    "After a step of the host's CLOCK_REALTIME a wall clock record that is asked for then, plus kvmclock, and the realtime of "
      + "KVM_GET_CLOCK are the stepped clock.",
    sources: [.msr("MSR_KVM_WALL_CLOCK_NEW"), .api("4.29 KVM_GET_CLOCK, field realtime")],
    method:
      "After each step both vCPUs write MSR_KVM_WALL_CLOCK_NEW and read their records, and the host calls KVM_GET_CLOCK, each "
      + "between two readings of CLOCK_REALTIME.",
    scenarios: [.realtimeStep],
    coverage: [
      steps, .observations(8, "wall clock records and results of KVM_GET_CLOCK after a step"),
    ], needs: [.hostChange]
  ) { timeline, findings in
    let steps = timeline.history.events.enumerated().compactMap { index, event in
      if case .hostChanged("realtime", let seconds, nil) = event.action {
        (index: index, event: event, isForward: !seconds.hasPrefix("-"))
      } else {
        nil
      }
    }
    let spans = timeline.realtimeSpans
    for write in timeline.wallWrites {
      guard let step = steps.last(where: { $0.index < write.index }), let record = write.record,
        let look = write.look, let epoch = timeline.epoch(of: write.step, spans),
        isExpressible(epoch.allowed)
      else { continue }
      findings.expect(
        Int128(record.epochNanoseconds), in: epoch.allowed, limit: Timeline.widestUseful,
        at: [step.event] + epoch.events + [look.event],
        "sec * 10^9 + nsec at \(Hex(write.address))",
        why: "CLOCK_REALTIME at the write, after the step, less kvmclock at the write")
      findings.cover(step.isForward ? "forward" : "back", of: "steps of CLOCK_REALTIME")
    }
    for (index, event) in timeline.history.events.enumerated() {
      guard case .getClock(let record) = event.action, record.hasRealtime,
        let step = steps.last(where: { $0.index < index }),
        let span = spans.first(where: { $0.first.index < index && index < $0.last.index })
      else { continue }
      let raw = Interval(Int128(event.began.raw), Int128(event.ended.raw))
      findings.expect(
        Int128(record.realtime),
        in: Interval(raw.lower + span.offset.lower, raw.upper + span.offset.upper),
        limit: Timeline.widestUseful, at: [step.event, span.first.event, event, span.last.event],
        "realtime of KVM_GET_CLOCK", why: "CLOCK_REALTIME during the call, after the step")
    }
  }
}
