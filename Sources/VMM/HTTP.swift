internal import ABIChecker

/// One request of HTTP/1.1 on a unix socket.
enum HTTP {
  /// - Throws: `VMMError.refused` with the status line and the body, unless the status is 2xx.
  static func request(
    _ method: String, _ path: String, body: String?, on stream: Stream, for verb: VMMVerb,
    milliseconds: Int
  ) throws(VMMError) {
    let lines = ["\(method) \(path) HTTP/1.1", "Host: localhost", "Accept: application/json"]
    let content = body.map {
      ["Content-Type: application/json", "Content-Length: \($0.utf8.count)"]
    }
    let head = (lines + (content ?? [])).joined(separator: "\r\n") + "\r\n\r\n"
    guard stream.send(head + (body ?? "")) else {
      throw .ended(how: "it closed its API's socket", said: "")
    }
    let end = Stream.now + milliseconds
    var received: [UInt8] = []
    while true {
      if let answer = answer(in: received) {
        guard (200..<300).contains(answer.status) else {
          throw .refused(
            verb: verb, reason: "\(method) \(path): status \(answer.status) \(answer.body)")
        }
        return
      }
      guard Stream.now < end else {
        throw .timedOut(what: "the answer to \(method) \(path)", milliseconds: milliseconds)
      }
      guard let bytes = stream.receive(within: end - Stream.now) else {
        throw .ended(how: "it closed its API's socket", said: "")
      }
      received += bytes
      guard received.count < 1 << 20 else {
        throw .badAnswer("more than 1 MiB in answer to \(method) \(path)")
      }
    }
  }

  /// Status and body, once all of it is there.
  static func answer(in bytes: [UInt8]) -> (status: Int, body: String)? {
    let text = String(decoding: bytes, as: UTF8.self)
    guard let gap = text.firstRange(of: "\r\n\r\n") else { return nil }
    let lines = text[..<gap.lowerBound].split(separator: "\r\n")
    guard let first = lines.first, first.hasPrefix("HTTP/1.") else { return (0, text) }
    let words = first.split(separator: " ", maxSplits: 2)
    guard words.count > 1, let status = Int(words[1]) else { return (0, text) }
    let length = lines.dropFirst().lazy.compactMap { line -> Int? in
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2, parts[0].lowercased() == "content-length" else { return nil }
      return Int(parts[1].filter { $0 != " " })
    }.first
    let body = text[gap.upperBound...]
    guard body.utf8.count >= length ?? 0 else { return nil }
    return (status, String(body))
  }
}
