internal import ABIChecker

/// One request of HTTP/1.1 on a unix socket.
enum HTTP {
  struct Answer: Equatable {
    var status: Int
    var body: String
  }

  /// - Throws: `VMMError.refused` with the status and the body, unless the status is 2xx.
  static func request(
    _ method: String, _ path: String, body: String?, on stream: Stream, for verb: VMMVerb,
    milliseconds: Int
  ) throws(VMMError) {
    let what = "\(method) \(path)"
    let lines = ["\(what) HTTP/1.1", "Host: localhost", "Accept: application/json"]
    let content = body.map {
      ["Content-Type: application/json", "Content-Length: \($0.utf8.count)"]
    }
    let head = (lines + (content ?? [])).joined(separator: "\r\n") + "\r\n\r\n"
    // One that does not read all of it may answer all the same.
    _ = stream.send(head + (body ?? ""))
    let end = Stream.now + milliseconds
    var received: [UInt8] = []
    var isOver = false
    while true {
      if let answer = try answer(in: received, isOver: isOver, to: what) {
        // All that matters of a 2xx is there with its head.
        if (200..<300).contains(answer.status) { return }
        throw .refused(verb: verb, reason: "\(what): status \(answer.status) \(answer.body)")
      }
      if isOver {
        guard Stream.now < end else {
          throw .timedOut(what: "the answer to \(what)", milliseconds: milliseconds)
        }
        throw .noAnswer(to: what, because: "it closed the connection")
      }
      let bytes = stream.receive(within: end - Stream.now)
      received += bytes ?? []
      isOver = bytes == nil || Stream.now >= end
    }
  }

  /// As much of a body as a reader wants to see.
  private static let mostOfBody = 400

  /// Status and body; nil while there is too little. Of a 2xx the head is enough, and of another one the beginning of its body.
  ///
  /// - Parameter isOver: nothing more will come.
  static func answer(
    in bytes: [UInt8], isOver: Bool = false, to what: String = ""
  ) throws(VMMError) -> Answer? {
    let text = String(decoding: bytes.prefix(1 << 16), as: UTF8.self)
    guard let gap = text.firstRange(of: "\r\n\r\n") else {
      guard bytes.count < 1 << 16 else {
        throw .noAnswer(to: what, because: "its head is longer than 64 KiB")
      }
      return nil
    }
    let lines = text[..<gap.lowerBound].split(separator: "\r\n")
    let words = (lines.first ?? "").split(separator: " ", maxSplits: 2)
    guard words.count > 1, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
      throw .noAnswer(to: what, because: "what came is no HTTP: \(cut(text))")
    }
    let rest = text[gap.upperBound...]
    // "100 Continue": the answer follows.
    if (100..<200).contains(status) {
      return try answer(in: Array(rest.utf8), isOver: isOver, to: what)
    }
    if (200..<300).contains(status) { return Answer(status: status, body: "") }
    var fields: [String: String] = [:]
    for line in lines.dropFirst() {
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2 else { continue }
      fields[parts[0].lowercased()] = parts[1].filter { $0 != " " }.lowercased()
    }
    let isWhole: Bool
    var body = String(rest)
    if fields["transfer-encoding"] == "chunked" {
      (body, isWhole) = dechunked(rest)
    } else if let length = fields["content-length"].flatMap({ Int($0) }) {
      isWhole = body.utf8.count >= length
    } else {
      isWhole = false
    }
    guard isWhole || isOver || body.utf8.count >= mostOfBody else { return nil }
    return Answer(status: status, body: cut(body))
  }

  private static func cut(_ text: String) -> String {
    text.utf8.count > mostOfBody ? text.prefix(mostOfBody) + " …" : text
  }

  /// What the chunks hold, and whether the last one is there.
  private static func dechunked(_ text: Substring) -> (String, isWhole: Bool) {
    var rest = Array(text.utf8)[...]
    var body: [UInt8] = []
    while let end = rest.firstRange(of: Array("\r\n".utf8)) {
      let size = String(decoding: rest[..<end.lowerBound], as: UTF8.self).prefix { $0 != ";" }
      guard let count = Int(size, radix: 16), count > 0 else {
        return (String(decoding: body, as: UTF8.self), true)
      }
      rest = rest[end.upperBound...]
      body += rest.prefix(count)
      rest = rest.dropFirst(count).dropFirst(2)
    }
    return (String(decoding: body, as: UTF8.self), false)
  }
}
