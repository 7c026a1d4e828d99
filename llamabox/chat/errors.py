"""What can be wrong with a template or with the messages for it. Pure: also raised inside sub-interpreters."""


class TemplateError(ValueError):
    """The messages are malformed, or the template refuses them; the text is meant for the client."""


class TemplateSyntaxInvalidError(TemplateError):
    """The template itself does not compile; the text names the line."""


class TemplateLimitError(TemplateError):
    """Rendering took more steps, text or time than a template may take."""


# They cross from the interpreter pool as themselves.
TEMPLATE_ERRORS = (TemplateError, TemplateSyntaxInvalidError, TemplateLimitError)
